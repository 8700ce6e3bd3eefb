// What happened, as lines: a running hash over all of them, the last ones for people, all of them when asked for.

const keptLines = 400;

export class Trace {
  #high = 0x811c9dc5;
  #low = 0x01000193;
  #count = 0;
  readonly #kept: string[] = [];
  readonly #onLine: ((line: string) => void) | undefined;

  constructor(onLine?: (line: string) => void) {
    this.#onLine = onLine;
  }

  add(atMs: number, text: string): void {
    const line = `${atMs.toFixed(3)} ${text}`;
    let high = this.#high;
    let low = this.#low;
    for (let at = 0; at < line.length; at += 1) {
      const code = line.charCodeAt(at);
      high = Math.imul(high ^ code, 0x01000193);
      low = Math.imul(low ^ (code + at), 0x85ebca6b);
    }
    this.#high = high;
    this.#low = low;
    this.#kept[this.#count % keptLines] = line;
    this.#count += 1;
    this.#onLine?.(line);
  }

  get hash(): string {
    return [this.#high, this.#low].map((part) => (part >>> 0).toString(16).padStart(8, "0")).join("");
  }

  get count(): number {
    return this.#count;
  }

  /** The last lines, oldest first. */
  last(most: number): string[] {
    const from = Math.max(0, this.#count - Math.min(most, keptLines));
    return Array.from({ length: this.#count - from }, (_, index) => this.#kept[(from + index) % keptLines] ?? "");
  }
}
