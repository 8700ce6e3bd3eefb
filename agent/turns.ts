// Who may run now: slots per lane, isolation locks, and the line of accepted attempts that wait for either (DESIGN 5).
// A part of roster.ts's pure core, working in place. Invariant: of two attempts that conflict over a lock, the one that was
// accepted first goes first, so that readers who keep coming never starve a writer.
import type { AttemptId } from "../shared/ids.ts";
import type { Lane } from "../shared/task.ts";
import type { AttemptFacts } from "./journal-record.ts";
import { Locks } from "./locks.ts";
import type { LockMode, LockWant } from "./locks.ts";

interface Want {
  readonly lane: Lane;
  /** A no-op runs nothing that could be in anybody's way. */
  readonly lock: (LockWant & { readonly waitMs?: number | undefined }) | undefined;
}

interface Waiting extends Want {
  readonly sinceMs: number;
  /** `journal`: accepted by an earlier process. */
  readonly from: "offer" | "journal";
}

/** Per lock what those before in line want of it: the mode that excludes most. */
type Before = Map<string, LockMode>;

export const defaultLock: LockWant = { name: "default", mode: "none" };

function wantOf({ lane, spec }: Pick<AttemptFacts, "lane" | "spec">): Want {
  return { lane, lock: spec.kind === "script" ? (spec.isolation ?? defaultLock) : undefined };
}

export class Turns {
  readonly #slots: Record<Lane, number>;
  readonly #waitingAtMost: number;
  readonly #locks = new Locks();
  readonly #held = new Map<AttemptId, Want>();
  /** In the order of acceptance. */
  readonly #waiting = new Map<AttemptId, Waiting>();
  #journal: "unproven" | "proven" = "unproven";
  readonly #used: Record<Lane, number> = { work: 0, system: 0 };

  constructor(options: { readonly workSlots: number; readonly systemSlots: number; readonly waitingAtMost: number }) {
    this.#slots = { work: options.workSlots, system: options.systemSlots };
    this.#waitingAtMost = options.waitingAtMost;
  }

  get running(): number {
    return this.#held.size;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get workSlots(): number {
    return this.#slots.work;
  }

  /** Holds at once for what starts from now on; what runs goes on, also beyond the number. */
  setWorkSlots(slots: number): void {
    this.#slots.work = slots;
  }

  holds(attempt: AttemptId): boolean {
    return this.#held.has(attempt);
  }

  /** Slot and lock of an attempt that runs already, whether they are free or not: an earlier process gave them. */
  retake(attempt: AttemptId, facts: Pick<AttemptFacts, "lane" | "spec">): void {
    this.#hold(attempt, wantOf(facts));
  }

  /** For a new attempt: `held` when it may begin, `wanted` when it is in line now, `full` when the line is too long. */
  enter(attempt: AttemptId, facts: Pick<AttemptFacts, "lane" | "spec">, nowMs: number): "held" | "wanted" | "full" {
    const want = wantOf(facts);
    if (this.#slots[want.lane] <= 0) return "full";
    if (this.#hasSlot(want) && this.#mayPass(want, this.#line())) {
      this.#hold(attempt, want);
      return "held";
    }
    if (this.#waiting.size >= this.#waitingAtMost) return "full";
    this.#waiting.set(attempt, { ...want, sinceMs: nowMs, from: "offer" });
    return "wanted";
  }

  /** At the end of the line, however long it is, for one that an earlier process accepted and did not start. */
  queueAgain(attempt: AttemptId, facts: Pick<AttemptFacts, "lane" | "spec">, nowMs: number): void {
    this.#waiting.set(attempt, { ...wantOf(facts), sinceMs: nowMs, from: "journal" });
  }

  /**
   * A node admitted this boot. Until then the disk may be a copy or a snapshot of one on which those who wait here have
   * run since: `superseded` would say so only after they had begun a second time.
   */
  prove(): void {
    this.#journal = "proven";
  }

  /** It waits no more: it ended before it began. */
  leave(attempt: AttemptId): void {
    this.#waiting.delete(attempt);
  }

  release(attempt: AttemptId): void {
    this.#waiting.delete(attempt);
    const want = this.#held.get(attempt);
    if (want === undefined) return;
    this.#held.delete(attempt);
    this.#used[want.lane] -= 1;
    if (want.lock !== undefined) this.#locks.free(attempt, want.lock);
  }

  /** Gives slot and lock to those whose turn it is, of those that `isReady` says can use them now. */
  grant(isReady: (attempt: AttemptId) => boolean): AttemptId[] {
    const granted: AttemptId[] = [];
    const before: Before = new Map();
    for (const [attempt, want] of this.#waiting) {
      const isProven = want.from === "offer" || this.#journal === "proven";
      if (isProven && this.#hasSlot(want) && this.#mayPass(want, before) && isReady(attempt)) {
        this.#waiting.delete(attempt);
        this.#hold(attempt, want);
        granted.push(attempt);
      } else putBehind(want, before);
    }
    return granted;
  }

  /** Those that waited for their lock as long as they would. One whose lock is free waits for a slot and goes on. */
  overdue(nowMs: number): AttemptId[] {
    const overdue: AttemptId[] = [];
    const before: Before = new Map();
    for (const [attempt, want] of this.#waiting) {
      const limitMs = want.lock?.waitMs;
      if (limitMs !== undefined && nowMs - want.sinceMs >= limitMs && !this.#mayPass(want, before))
        overdue.push(attempt);
      putBehind(want, before);
    }
    return overdue;
  }

  /**
   * How many more attempts may be offered: slots that no one in line could use. Who waits for a lock keeps no slot from
   * others, or one long `full` script would idle an agent; a line that is full takes nothing.
   */
  room(lane: Lane): number {
    if (this.#waiting.size >= this.#waitingAtMost && this.#waiting.size > 0) return 0;
    const before: Before = new Map();
    let awaitsSlot = 0;
    for (const want of this.#waiting.values()) {
      if (want.lane === lane && this.#mayPass(want, before)) awaitsSlot += 1;
      putBehind(want, before);
    }
    return this.#slots[lane] - this.#used[lane] - awaitsSlot;
  }

  #hold(attempt: AttemptId, want: Want): void {
    if (this.#held.has(attempt)) return;
    this.#held.set(attempt, want);
    this.#used[want.lane] += 1;
    if (want.lock !== undefined) this.#locks.take(attempt, want.lock);
  }

  #hasSlot({ lane }: Want): boolean {
    return this.#used[lane] < this.#slots[lane];
  }

  /** Whether its lock is free and nobody before it in line wants it in a way that excludes it. */
  #mayPass({ lock }: Want, before: Before): boolean {
    if (lock === undefined) return true;
    if (!this.#locks.isFree(lock)) return false;
    const wanted = before.get(lock.name);
    return wanted === undefined || (wanted === "none" && lock.mode === "none");
  }

  #line(): Before {
    const line: Before = new Map();
    for (const want of this.#waiting.values()) putBehind(want, line);
    return line;
  }
}

function putBehind({ lock }: Want, before: Before): void {
  if (lock !== undefined && (lock.mode === "full" || !before.has(lock.name))) before.set(lock.name, lock.mode);
}
