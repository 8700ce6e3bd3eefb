// Randomness as a dependency, so that tests and the simulator can seed it.
import { randomFillSync } from "node:crypto";

export interface Random {
  /** A number in [0, 1). */
  unit(): number;
  bytes(count: number): Uint8Array;
}

const pageBytes = 4_096;

/**
 * From the system's cryptographic generator, drawn by the page and each byte handed out once: a task has three ids, and a call
 * for each was 3 % of a busy node's CPU. What is not handed out yet lies in memory, up to a page: a snapshot of the process has
 * it, as it has the keys themselves.
 */
export class SystemRandom implements Random {
  #page = new Uint8Array();
  #used = 0;

  unit(): number {
    return Math.random();
  }

  bytes(count: number): Uint8Array {
    if (count > pageBytes) return randomFillSync(new Uint8Array(count));
    if (this.#used + count > this.#page.length) {
      this.#page = randomFillSync(new Uint8Array(pageBytes));
      this.#used = 0;
    }
    const taken = this.#page.slice(this.#used, this.#used + count);
    // Some become keys: nobody is to find them here afterwards.
    this.#page.fill(0, this.#used, this.#used + count);
    this.#used += count;
    return taken;
  }
}
