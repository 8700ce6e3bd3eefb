// Whether an agent's frames are read: not while the node's memory for logs, or this session's share of waiting writes, is
// full. That is how a node that cannot keep up slows its agents down. Knows nothing of what the frames say.
import type { FrameSocket } from "../../shared/link.ts";
import type { AttemptWrites } from "./attempt-writes.ts";
import type { LogBudget } from "./log-budget.ts";

/** Attempts of one session with writes on their way to the database before no more frames are read. */
const writesAtOnce = 2_000;

export interface ReadingDeps {
  readonly socket: Pick<FrameSocket, "pause" | "resume">;
  readonly budget: Pick<LogBudget, "isFull">;
  readonly writes: Pick<AttemptWrites, "size">;
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
  }

  /** Goes on when there is room again. */
  goOn(): void {
    if (!this.isHeld || this.#isFull()) return;
    this.#state = "open";
    this.#deps.onResumed();
    this.#deps.socket.resume?.();
  }

  #isFull(): boolean {
    return this.#deps.budget.isFull || this.#deps.writes.size > writesAtOnce;
  }
}
