// Simulated time: a queue of events by moment, ties broken by chance, one after another. After each, every promise that can
// go on does, for nothing in the simulated code waits for anything but this queue.
// Invariant: what happens depends on the seed alone.
import { SeededRandom } from "./random.ts";
import type { Trace } from "./trace.ts";

export interface Scheduled {
  cancel(): void;
}

interface Entry {
  readonly atMs: number;
  readonly tie: number;
  readonly act: () => void;
  isCancelled: boolean;
}

export class World {
  readonly seed: number;
  readonly trace: Trace;
  nowMs = 0;
  events = 0;
  readonly #ties: SeededRandom;
  readonly #heap: Entry[] = [];
  /** Thrown by a callback that nobody awaits: ends the run. */
  #failure: { readonly cause: unknown } | undefined;

  constructor(seed: number, trace: Trace) {
    this.seed = seed;
    this.trace = trace;
    this.#ties = new SeededRandom(seed, "ties");
  }

  random(label: string): SeededRandom {
    return new SeededRandom(this.seed, label);
  }

  note(text: string): void {
    this.trace.add(this.nowMs, text);
  }

  /** Ends the run with `cause`; for checks made deep inside callbacks. */
  fail(cause: unknown): void {
    this.#failure ??= { cause };
  }

  schedule(delayMs: number, act: () => void): Scheduled {
    const entry = {
      atMs: this.nowMs + Math.max(0, delayMs),
      tie: this.#ties.unit(),
      act,
      isCancelled: false,
    };
    this.#push(entry);
    return {
      cancel: () => {
        entry.isCancelled = true;
      },
    };
  }

  /** Runs until `endMs`, or until `isDone` says so after an event. */
  async run(endMs: number, isDone: () => boolean = () => false): Promise<void> {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#pop();
      if (next.isCancelled) continue;
      this.nowMs = next.atMs;
      this.events += 1;
      next.act();
      await turn();
      if (this.#failure !== undefined) throw this.#failure.cause;
      if (isDone()) return;
    }
    this.nowMs = endMs;
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || !isBefore(entry, parent)) break;
      heap[at] = parent;
      at = up;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      const left = heap[child];
      if (left === undefined) break;
      const right = heap[child + 1];
      if (right !== undefined && isBefore(right, left)) child += 1;
      const chosen = heap[child];
      if (chosen === undefined || !isBefore(chosen, last)) break;
      heap[at] = chosen;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(one: Entry, other: Entry): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.tie < other.tie);
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
