// Full-jitter exponential back-off (AWS architecture blog, 2015): delay = random × min(cap, base × 2^attempt).

import type { Random } from "./random.ts";

export interface BackoffOptions {
  readonly baseMs: number;
  readonly capMs: number;
}

export interface Backoff {
  /** The next delay in milliseconds; a peer's `retryAfterMs` wins when it is longer. */
  nextMs(retryAfterMs?: number): number;
  /** Call on proof of life (a completed greeting), never on a mere TCP connect. */
  reset(): void;
}

export function createBackoff(deps: { readonly random: Random }, options: BackoffOptions): Backoff {
  let failures = 0;
  return {
    nextMs(retryAfterMs = 0) {
      const ceilingMs = Math.min(options.capMs, options.baseMs * 2 ** Math.min(failures, 30));
      failures += 1;
      const jitteredMs = deps.random.unit() * ceilingMs;
      return retryAfterMs > 0 ? retryAfterMs + deps.random.unit() * options.baseMs : jitteredMs;
    },
    reset() {
      failures = 0;
    },
  };
}
