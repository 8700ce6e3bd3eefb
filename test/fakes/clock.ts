// Time that stands still until a test moves it. Timers run in the order of their moments, each at its own; what a timer
// starts and falls due within the same advance runs too.
import type { Clock, Timer } from "../../shared/clock.ts";

interface Pending {
  readonly dueMs: number;
  readonly order: number;
  readonly act: () => void;
}

export class FakeClock implements Clock {
  #nowMs = 0;
  #wallOffsetMs: number;
  #order = 0;
  readonly #pending = new Set<Pending>();

  constructor(options: { readonly wallMs?: number } = {}) {
    this.#wallOffsetMs = options.wallMs ?? Date.UTC(2026, 10, 23);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#wallOffsetMs + this.#nowMs;
  }

  /** Timers that have not fired; a test that ends with some has left something running. */
  get timers(): number {
    return this.#pending.size;
  }

  /** Moves the calendar only, as an operator or NTP does. */
  jumpWall(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  /** Lets time pass, firing what falls due on the way. */
  advance(byMs: number): void {
    const endMs = this.#nowMs + byMs;
    for (let next = this.#due(endMs); next !== undefined; next = this.#due(endMs)) {
      this.#pending.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.act();
    }
    this.#nowMs = endMs;
  }

  after(delayMs: number, act: () => void): Timer {
    const pending = { dueMs: this.#nowMs + Math.max(0, delayMs), order: (this.#order += 1), act };
    this.#pending.add(pending);
    return { cancel: () => void this.#pending.delete(pending) };
  }

  every(periodMs: number, act: () => void): Timer {
    let timer: Timer;
    const arm = (): void => {
      timer = this.after(periodMs, () => {
        arm();
        act();
      });
    };
    arm();
    return { cancel: () => timer.cancel() };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const timer = this.after(delayMs, resolve);
      signal?.addEventListener(
        "abort",
        () => {
          timer.cancel();
          reject(signal.reason);
        },
        { once: true },
      );
    });
  }

  #due(endMs: number): Pending | undefined {
    let next: Pending | undefined;
    for (const pending of this.#pending) {
      if (pending.dueMs > endMs) continue;
      if (
        next === undefined ||
        pending.dueMs < next.dueMs ||
        (pending.dueMs === next.dueMs && pending.order < next.order)
      )
        next = pending;
    }
    return next;
  }
}
