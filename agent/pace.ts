// How fast one stream may be sent, when its task has a limit: a bucket that holds what one second brings, filled by the
// monotonic clock. What is not sent stays in the spool, whose bound keeps head and tail. Knows nothing of logs.
import type { AttemptFacts } from "./journal-record.ts";

export class Pace {
  readonly #bytesPerSecond: number;
  #left: number;
  #atMs: number;

  constructor(options: { readonly bytesPerSecond: number; readonly nowMs: number }) {
    this.#bytesPerSecond = options.bytesPerSecond;
    this.#left = options.bytesPerSecond;
    this.#atMs = options.nowMs;
  }

  /** Bytes that may go now. */
  allowance(nowMs: number): number {
    const brought = (Math.max(0, nowMs - this.#atMs) * this.#bytesPerSecond) / 1_000;
    this.#left = Math.min(this.#bytesPerSecond, this.#left + brought);
    this.#atMs = nowMs;
    return Math.floor(this.#left);
  }

  /** Whether so much may go now, or a full bucket if that is less. */
  admits(bytes: number, nowMs: number): boolean {
    return this.allowance(nowMs) >= Math.min(bytes, this.#bytesPerSecond);
  }

  take(bytes: number): void {
    this.#left -= bytes;
  }

  /** Milliseconds until `bytes` may go, but no more than a full bucket's worth. */
  waitMs(bytes: number): number {
    const missing = Math.min(bytes, this.#bytesPerSecond) - this.#left;
    return Math.max(0, Math.ceil((missing * 1_000) / this.#bytesPerSecond));
  }
}

/** Of an attempt whose spec asks for one. */
export function paceOf(facts: AttemptFacts | undefined, nowMs: number): Pace | undefined {
  const bytesPerSecond = facts?.spec.kind === "script" ? facts.spec.logBytesPerSecond : undefined;
  return bytesPerSecond === undefined ? undefined : new Pace({ bytesPerSecond, nowMs });
}
