// What is worth a line in the log once in a while, however often a peer makes it happen. Invariant: of one key one a minute,
// and no more keys than are stated; the oldest is forgotten, and merely told of once more.
import type { Clock } from "./clock.ts";

const againMs = 60_000;
const keysAtMost = 10_000;

export class Seldom {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #told = new Map<string, number>();

  constructor(deps: { readonly clock: Pick<Clock, "monotonicMs"> }) {
    this.#clock = deps.clock;
  }

  /** Whether it is to be told now. */
  isDue(key: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    const toldMs = this.#told.get(key);
    if (toldMs !== undefined && nowMs - toldMs < againMs) return false;
    this.#told.delete(key);
    this.#told.set(key, nowMs);
    const [oldest] = this.#told.keys();
    if (this.#told.size > keysAtMost && oldest !== undefined) this.#told.delete(oldest);
    return true;
  }
}
