// The isolation locks of one agent: each name is held by one `full` attempt or by any number of `none` ones. Pure, works in
// place. Leaves who is next to turns.ts. Invariant: a lock that was taken is freed by `free` alone, whatever else happens.
import type { AttemptId } from "../shared/ids.ts";
import type { Isolation } from "../shared/task.ts";

export type LockMode = Isolation["mode"];
export type LockWant = Pick<Isolation, "name" | "mode">;

interface Holders {
  readonly full: Set<AttemptId>;
  readonly none: Set<AttemptId>;
}

export class Locks {
  /** Names that somebody holds: at most as many as attempts that run. */
  readonly #holders = new Map<string, Holders>();

  isFree({ name, mode }: LockWant): boolean {
    const holders = this.#holders.get(name);
    return holders === undefined || (holders.full.size === 0 && (mode === "none" || holders.none.size === 0));
  }

  /**
   * Unconditional: what runs already holds its lock, whoever else does. After a journal was mended or an attempt abandoned
   * there may be two writers, and a third waits for both.
   */
  take(attempt: AttemptId, { name, mode }: LockWant): void {
    const holders = this.#holders.get(name) ?? { full: new Set(), none: new Set() };
    holders[mode].add(attempt);
    this.#holders.set(name, holders);
  }

  free(attempt: AttemptId, { name, mode }: LockWant): void {
    const holders = this.#holders.get(name);
    if (holders === undefined) return;
    holders[mode].delete(attempt);
    if (holders.full.size + holders.none.size === 0) this.#holders.delete(name);
  }
}
