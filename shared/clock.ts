// Time as a dependency. Monotonic milliseconds decide, wall time is only shown. This file holds the only raw
// timers and clock readings outside the test harness.

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds that never go back; no relation to the calendar. */
  monotonicMs(): number;
  /** Milliseconds since 1970 UTC; may jump; for display and certificates only. */
  wallMs(): number;
  /** Calls once after `delayMs`. Delays over 24 h are cut into pieces (setTimeout overflows at 24.8 days). */
  after(delayMs: number, act: () => void): Timer;
  every(periodMs: number, act: () => void): Timer;
  /** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** Calls once the current turn of the event loop is over: what arrived together is dealt with together. */
export function afterThisTurn(act: () => void): void {
  setImmediate(act);
}

/** Calls after `delayMs` if this process has not ended by itself until then; does not keep it from ending. */
export function unlessEnded(delayMs: number, act: () => void): void {
  setTimeout(act, delayMs).unref();
}

const longestTimerMs = 86_400_000;

/** A class, not closures: a node holds two of these for each of its agents. */
class SystemTimer implements Timer {
  #handle: NodeJS.Timeout;

  constructor(delayMs: number, act: () => void) {
    this.#handle = this.#arm(delayMs, act);
  }

  cancel(): void {
    clearTimeout(this.#handle);
  }

  #arm(leftMs: number, act: () => void): NodeJS.Timeout {
    if (leftMs <= longestTimerMs) return setTimeout(act, Math.max(0, leftMs));
    return setTimeout(() => {
      this.#handle = this.#arm(leftMs - longestTimerMs, act);
    }, longestTimerMs);
  }
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (delayMs, act) => new SystemTimer(delayMs, act),
  every(periodMs, act) {
    const handle = setInterval(act, periodMs);
    return { cancel: () => clearInterval(handle) };
  },
  sleep(delayMs, signal) {
    return new Promise<void>((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        timer.cancel();
        reject(signal?.reason);
      };
      const timer = systemClock.after(delayMs, () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      });
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  },
};
