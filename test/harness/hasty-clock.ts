// The system's clock with time passing faster for whoever is given it: its waits are shorter and still in proportion.
// The sleep in it is the clock under test, not a wait of a test.
import { systemClock, type Clock } from "../../shared/clock.ts";

export function hastyClock(factor: number): Clock {
  return {
    monotonicMs: () => systemClock.monotonicMs() * factor,
    wallMs: () => systemClock.wallMs(),
    after: (delayMs, act) => systemClock.after(delayMs / factor, act),
    every: (periodMs, act) => systemClock.every(periodMs / factor, act),
    sleep: (delayMs, signal) => systemClock.sleep(delayMs / factor, signal),
  };
}
