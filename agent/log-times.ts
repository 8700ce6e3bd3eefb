// When the bytes of one stream were seen, by the agent's calendar: remembered as marks at least 100 ms apart, so that memory
// is bounded. For people who read logs; nothing is decided by it. Invariant: times of later bytes are never earlier marks.

interface Mark {
  /** Bytes before this offset had been seen by then. */
  readonly upTo: number;
  readonly atMs: number;
}

export interface LogTimesOptions {
  /** Marks kept; at the bound every other one goes, and times get coarser. Default 512. */
  readonly most?: number;
  readonly stepMs?: number;
}

export class LogTimes {
  readonly #most: number;
  readonly #stepMs: number;
  #marks: Mark[] = [];

  constructor(options: LogTimesOptions = {}) {
    this.#most = Math.max(2, options.most ?? 512);
    this.#stepMs = options.stepMs ?? 100;
  }

  /** The stream is this long now. */
  note(size: number, atMs: number): void {
    const last = this.#marks.at(-1);
    if (last !== undefined && size <= last.upTo) return;
    if (last !== undefined && Math.abs(atMs - last.atMs) < this.#stepMs) {
      this.#marks[this.#marks.length - 1] = { upTo: size, atMs: last.atMs };
      return;
    }
    this.#marks.push({ upTo: size, atMs });
    // The bytes of a mark that goes belong to the next one: said to be seen a little later than they were.
    if (this.#marks.length > this.#most)
      this.#marks = this.#marks.filter((_, index) => (this.#marks.length - 1 - index) % 2 === 0);
  }

  /** When the byte at this offset was seen. */
  at(offset: number): number | undefined {
    let [from, to] = [0, this.#marks.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#marks[middle]?.upTo ?? 0) > offset) to = middle;
      else from = middle + 1;
    }
    return this.#marks[from]?.atMs;
  }
}
