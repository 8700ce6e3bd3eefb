// Lines out of the bytes of one stream. Bytes that are not UTF-8 are shown as U+FFFD; a line over 16 KiB is handed on in
// pieces, none of which cuts a character. Memory per stream is one such piece.
import type { LogContent } from "./follow.ts";

export interface Line {
  /** Without its line feed (and carriage return before it). */
  readonly text: string;
  /** True when the line was cut here and goes on with the next one of the same stream. */
  readonly continues: boolean;
  /** Set on the notice that stands for bytes the agent dropped. */
  readonly omittedBytes?: number;
}

/** What Docker splits at too. */
export const longestLineBytes = 16 * 1024;

const lineFeed = 0x0a;
const carriageReturn = 0x0d;

export class LineSplitter {
  #rest: Uint8Array = new Uint8Array(0);

  *push(content: LogContent): Generator<Line> {
    if ("omitted" in content) {
      yield* this.end();
      yield { text: `[${content.omitted} bytes omitted]`, continues: false, omittedBytes: content.omitted };
      return;
    }
    const bytes = this.#rest.length === 0 ? content.bytes : joined(this.#rest, content.bytes);
    let start = 0;
    for (;;) {
      const feed = bytes.indexOf(lineFeed, start);
      const end = feed < 0 ? bytes.length : feed;
      while (end - start > longestLineBytes) {
        const at = boundary(bytes, { start, end: start + longestLineBytes });
        yield { text: decode(bytes.subarray(start, at)), continues: true };
        start = at;
      }
      if (feed < 0) break;
      const trimmed = end > start && bytes[end - 1] === carriageReturn ? end - 1 : end;
      yield { text: decode(bytes.subarray(start, trimmed)), continues: false };
      start = feed + 1;
    }
    // A copy: the chunk it points into would otherwise be kept whole.
    this.#rest = bytes.slice(start);
  }

  /** What stands after the last line feed. */
  *end(): Generator<Line> {
    if (this.#rest.length > 0) yield { text: decode(this.#rest), continues: false };
    this.#rest = new Uint8Array(0);
  }
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function decode(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** The last place at or before `end` where a character begins, when it is near; UTF-8 has at most three bytes that follow. */
function boundary(bytes: Uint8Array, range: { start: number; end: number }): number {
  for (let at = range.end; at > range.end - 4 && at > range.start; at -= 1) {
    if (((bytes[at] ?? 0) & 0xc0) !== 0x80) return at;
  }
  return range.end;
}

function joined(one: Uint8Array, other: Uint8Array): Uint8Array {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
