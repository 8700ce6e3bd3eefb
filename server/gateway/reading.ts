// Whether an agent's frames are read: not while the node's memory for logs, or this session's share of waiting writes, is
// full. That is how a node that cannot keep up slows its agents down. Knows nothing of what the frames say.
import type { FrameSocket } from "../../shared/link.ts";
import type { AttemptWrites } from "./attempt-writes.ts";
import type { LogBudget } from "./log-budget.ts";

/** Attempts of one session with writes on their way to the database before no more frames are read. */
const writesAtOnce = 2_000;
/** What all of those hold: a peer may say very much of one attempt, and in pieces of one byte. */
export const heldBytesAtMost = 8 * 1024 * 1024;

export interface ReadingDeps {
  readonly socket: Pick<FrameSocket, "pause" | "resume">;
  readonly budget: Pick<LogBudget, "isFull" | "whenFree">;
  readonly writes: Pick<AttemptWrites, "size" | "heldBytes">;
  readonly onResumed: () => void;
}

export class Reading {
  readonly #deps: ReadingDeps;
  #state: "open" | "held" = "open";

  constructor(deps: ReadingDeps) {
    this.#deps = deps;
  }

  get isHeld(): boolean {
    return this.#state === "held";
  }

  /** Stops when there is too much. */
  hold(): void {
    if (this.isHeld || !this.#isFull()) return;
    this.#state = "held";
    this.#deps.socket.pause?.();
    this.#await();
  }

  /** Goes on when there is room again. Called after each write of this session, and by the budget. */
  goOn(): void {
    if (!this.isHeld) return;
    if (this.#isFull()) {
      this.#await();
      return;
    }
    this.#state = "open";
    this.#deps.onResumed();
    this.#deps.socket.resume?.();
  }

  /** It may be other sessions that have filled the budget: then no write of this one says when there is room. */
  #await(): void {
    if (this.#deps.budget.isFull) this.#deps.budget.whenFree(this);
  }

  #isFull(): boolean {
    const { budget, writes } = this.#deps;
    return budget.isFull || writes.size > writesAtOnce || writes.heldBytes > heldBytesAtMost;
  }
}
