// Whether a PostgreSQL that died is started again: the product does so within a second, and a test that killed it may have
// its timers wait for its word.
import { systemClock, type Clock } from "../../shared/clock.ts";

export class Tending {
  #life: "tended" | "held down" = "tended";
  readonly clock: Clock = {
    ...systemClock,
    every: (periodMs, act) =>
      systemClock.every(periodMs, () => {
        if (this.#life === "tended") act();
      }),
  };

  holdDown(): void {
    this.#life = "held down";
  }

  letLive(): void {
    this.#life = "tended";
  }
}
