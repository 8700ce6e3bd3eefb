// Draws of one fuzz case. Each case has a seed of its own made from the run's seed and its number: any case runs alone again.
import { seeded } from "../harness/seeded.ts";

export class Dice {
  readonly #next: () => number;

  constructor(seed: number, no: number) {
    this.#next = seeded(Math.imul(seed ^ (no + 1), 0x9e3779b1) ^ no);
    // The first draws of neighbouring seeds resemble each other.
    this.#next();
    this.#next();
  }

  /** A whole number in [0, below). */
  below(below: number): number {
    return Math.floor(this.#next() * below);
  }

  chance(probability: number): boolean {
    return this.#next() < probability;
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  }

  bytes(count: number): Buffer {
    return Buffer.from(Uint8Array.from({ length: count }, () => this.below(256)));
  }
}
