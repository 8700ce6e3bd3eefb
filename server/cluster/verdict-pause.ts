// When sweeps may pass verdicts by the database's clock: not for 60 s after it was seen to move by more than 30 s against
// our own monotonic clock, and not for 15 s after the database was away, for then others' heartbeats may be late too.
import type { Logger } from "../../shared/logger.ts";

const stepMs = 30_000;
const pauseAfterStepMs = 60_000;
const pauseAfterAwayMs = 15_000;

export interface ClockReading {
  readonly databaseMs: number;
  readonly monotonicMs: number;
}

export class VerdictPause {
  readonly #logger: Logger;
  #last: ClockReading | undefined;
  #untilMs = -Infinity;

  constructor(deps: { readonly logger: Logger }) {
    this.#logger = deps.logger;
  }

  judge(now: ClockReading): "allowed" | "paused" {
    const last = this.#last;
    this.#last = now;
    const driftMs = last === undefined ? 0 : now.databaseMs - last.databaseMs - (now.monotonicMs - last.monotonicMs);
    if (Math.abs(driftMs) > stepMs) {
      this.#pause(now.monotonicMs + pauseAfterStepMs);
      this.#logger.error(
        { driftMs: Math.round(driftMs) },
        "the database's clock has moved; nothing expires for a minute",
      );
    }
    return now.monotonicMs < this.#untilMs ? "paused" : "allowed";
  }

  /** The database did not answer. */
  wasAway(monotonicMs: number): void {
    this.#pause(monotonicMs + pauseAfterAwayMs);
  }

  #pause(untilMs: number): void {
    this.#untilMs = Math.max(this.#untilMs, untilMs);
  }
}
