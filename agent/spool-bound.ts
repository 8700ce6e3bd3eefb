// Keeps one spool within its bound while its script writes: when to punch, and when to try again after a failure.
// Leaves the punching to spool.ts. Invariant: a punch that fails costs room on the disk and nothing else.
import type { Clock, Timer } from "../shared/clock.ts";
import { describeError } from "../shared/errors.ts";
import type { Logger } from "../shared/logger.ts";
import type { Spool } from "./spool.ts";

export interface SpoolBoundDeps {
  readonly clock: Clock;
  readonly spool: Pick<Spool, "punch" | "refresh">;
  readonly logger: Logger;
}

/** Between two punches of a flood: each costs a process. */
const punchPauseMs = 10;
/** After a failure, doubling: without fallocate or holes every look would cost a process for nothing. */
const retryMs = { first: 1_000, most: 60_000 } as const;

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "punching" }
  | { readonly kind: "resting"; readonly timer: Timer }
  | { readonly kind: "stopped" };

export class SpoolBound {
  readonly #deps: SpoolBoundDeps;
  #state: State = { kind: "idle" };
  #retryMs = 0;

  constructor(deps: SpoolBoundDeps) {
    this.#deps = deps;
  }

  /** The file may have grown. */
  look(): void {
    if (this.#state.kind !== "idle") return;
    const punching = this.#deps.spool.punch();
    if (punching === undefined) return;
    this.#state = { kind: "punching" };
    punching.then(
      () => {
        this.#retryMs = 0;
        this.#rest(punchPauseMs);
      },
      (cause: unknown) => this.#failed(cause),
    );
  }

  stop(): void {
    if (this.#state.kind === "resting") this.#state.timer.cancel();
    this.#state = { kind: "stopped" };
  }

  #failed(cause: unknown): void {
    // Said once per streak: it may last as long as the script writes.
    if (this.#retryMs === 0) this.#deps.logger.warn({ err: cause }, `cannot punch the spool: ${describeError(cause)}`);
    this.#retryMs = Math.min(retryMs.most, Math.max(retryMs.first, this.#retryMs * 2));
    this.#rest(this.#retryMs);
  }

  /** A flood grows on between two looks of the follower: the disk's bound is what is written during one punch. */
  #rest(delayMs: number): void {
    if (this.#state.kind === "stopped") return;
    const timer = this.#deps.clock.after(delayMs, () => {
      this.#state = { kind: "idle" };
      try {
        this.#deps.spool.refresh();
      } catch {
        // The follower's next look meets it too, and says so.
        return;
      }
      this.look();
    });
    this.#state = { kind: "resting", timer };
  }
}
