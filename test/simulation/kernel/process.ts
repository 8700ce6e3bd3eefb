// One operating-system process of the simulation: its clock, its life, and the effects it may have. A crashed process does
// nothing more, even in the middle of an event; a paused one does later what fell due meanwhile.
import type { Clock, Timer } from "../../../shared/clock.ts";
import type { Scheduled, World } from "./world.ts";

export interface ProcessClock {
  /** Added to simulated time for the calendar; may jump. */
  wallOffsetMs: number;
  /** How fast this process's monotonic clock runs. */
  readonly rate: number;
}

interface Held {
  readonly act: () => void;
  isCancelled: boolean;
}

export class SimProcess {
  readonly name: string;
  readonly world: World;
  readonly #time: ProcessClock;
  readonly #bornMs: number;
  #life: "up" | "paused" | "down" = "up";
  #held: Held[] = [];
  /** Effects left until it dies in the middle of one; undefined when it is to live. */
  #effectsLeft: number | undefined;
  readonly #onDeath: (() => void)[] = [];

  constructor(world: World, name: string, time: ProcessClock) {
    this.world = world;
    this.name = name;
    this.#time = time;
    this.#bornMs = world.nowMs;
  }

  get life(): "up" | "paused" | "down" {
    return this.#life;
  }

  get isUp(): boolean {
    return this.#life !== "down";
  }

  /** Asked before every effect on the outside world. False: the process is dead and the effect does not happen. */
  mayAct(): boolean {
    if (this.#life === "down") return false;
    if (this.#effectsLeft === undefined) return true;
    this.#effectsLeft -= 1;
    if (this.#effectsLeft > 0) return true;
    this.#effectsLeft = undefined;
    this.world.note(`${this.name} dies in the middle of an event`);
    this.kill();
    return false;
  }

  dieAfterEffects(count: number): void {
    this.#effectsLeft = count;
  }

  surviveEffects(): void {
    this.#effectsLeft = undefined;
  }

  onDeath(act: () => void): void {
    this.#onDeath.push(act);
  }

  kill(): void {
    if (this.#life === "down") return;
    this.#life = "down";
    this.#held = [];
    for (const act of this.#onDeath) act();
  }

  pause(): void {
    if (this.#life === "up") this.#life = "paused";
  }

  resume(): void {
    if (this.#life !== "paused") return;
    this.#life = "up";
    const held = this.#held;
    this.#held = [];
    // In the order in which it fell due.
    const inOrder = this.inOrder();
    for (const entry of held) inOrder(() => this.#run(entry));
  }

  /** Runs `act` in this process after `delayMs` of simulated time, unless it has died by then. */
  schedule(delayMs: number, act: () => void): Scheduled {
    const entry: Held = { act, isCancelled: false };
    const scheduled = this.world.schedule(delayMs, () => this.#run(entry));
    return {
      cancel: () => {
        entry.isCancelled = true;
        scheduled.cancel();
      },
    };
  }

  /** A queue whose acts run soon, one event each, first in, first out: sockets and deferred acts keep their order. */
  inOrder(delayMs = 0): (act: () => void) => void {
    const acts: (() => void)[] = [];
    return (act) => {
      acts.push(act);
      this.schedule(delayMs, () => acts.shift()?.());
    };
  }

  readonly defer = this.inOrder(0.001);

  get clock(): Clock {
    return this.#clock;
  }

  #run(entry: Held): void {
    if (entry.isCancelled || this.#life === "down") return;
    if (this.#life === "paused") this.#held.push(entry);
    else entry.act();
  }

  readonly #clock: Clock = {
    monotonicMs: () => (this.world.nowMs - this.#bornMs) * this.#time.rate + 1,
    wallMs: () => 1_795_000_000_000 + this.world.nowMs + this.#time.wallOffsetMs,
    // As Node's timers, never sooner than a millisecond.
    after: (delayMs, act) => this.schedule(Math.max(1, delayMs / this.#time.rate), act),
    every: (periodMs, act) => {
      let timer: Timer;
      const arm = (): void => {
        timer = this.schedule(periodMs / this.#time.rate, () => {
          arm();
          act();
        });
      };
      arm();
      return { cancel: () => timer.cancel() };
    },
    sleep: (delayMs, signal) =>
      new Promise<void>((resolve, reject) => {
        if (signal?.aborted === true) {
          reject(signal.reason);
          return;
        }
        const onAbort = (): void => {
          timer.cancel();
          reject(signal?.reason);
        };
        const timer = this.#clock.after(delayMs, () => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        });
        signal?.addEventListener("abort", onAbort, { once: true });
      }),
  };
}
