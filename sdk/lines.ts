// Lines out of the bytes of one stream. Bytes that are not UTF-8 are shown as U+FFFD; a line over 16 KiB is handed on in
// pieces, none of which cuts a character; so is what a progress bar writes over. Memory per stream is one such piece.
import type { LogContent } from "./follow.ts";

export interface Line {
  /** Without its line feed (and carriage return before it). */
  readonly text: string;
  /** When the agent saw where it begins; null when that is not known. */
  readonly at: string | null;
  /** True when the line was cut here and goes on with the next one of the same stream. */
  readonly continues: boolean;
  /** True when a lone carriage return ended it, as progress bars do. */
  readonly overwritten?: boolean;
  /** Set on the notice that stands for bytes the agent dropped. */
  readonly omittedBytes?: number;
}

/** What Docker splits at too. */
export const longestLineBytes = 16 * 1024;

const lineFeed = 0x0a;
const carriageReturn = 0x0d;

export interface TimedContent {
  readonly content: LogContent;
  readonly at: string | null;
}

export class LineSplitter {
  #rest: Uint8Array = new Uint8Array(0);
  /** Of the piece in which the rest begins. */
  #restAt: string | null = null;

  *push({ content, at }: TimedContent): Generator<Line> {
    if ("omitted" in content) {
      yield* this.end();
      yield { text: `[${content.omitted} bytes omitted]`, at, continues: false, omittedBytes: content.omitted };
      return;
    }
    const carried = this.#rest.length;
    const bytes = carried === 0 ? content.bytes : joined(this.#rest, content.bytes);
    const timeOf = (start: number): string | null => (start < carried ? this.#restAt : at);
    let start = 0;
    for (let end = endOfLine(bytes, start); ; end = endOfLine(bytes, start)) {
      const stop = end?.at ?? bytes.length;
      while (stop - start > longestLineBytes) {
        const cut = boundary(bytes, { start, end: start + longestLineBytes });
        yield { text: decode(bytes.subarray(start, cut)), at: timeOf(start), continues: true };
        start = cut;
      }
      if (end === undefined) break;
      const line = { text: decode(bytes.subarray(start, stop)), at: timeOf(start), continues: false };
      yield end.kind === "return" ? { ...line, overwritten: true } : line;
      start = end.next;
    }
    this.#restAt = timeOf(start);
    // A copy: the chunk it points into would otherwise be kept whole.
    this.#rest = bytes.slice(start);
  }

  /** What stands after the last line feed. */
  *end(): Generator<Line> {
    const last = this.#rest.at(-1) === carriageReturn ? this.#rest.subarray(0, -1) : this.#rest;
    if (last.length > 0) yield { text: decode(last), at: this.#restAt, continues: false };
    this.#rest = new Uint8Array(0);
  }
}

interface LineEnd {
  readonly kind: "feed" | "return";
  /** Of the first byte that is not the line's. */
  readonly at: number;
  readonly next: number;
}

/** Line feed, carriage return and line feed, or a carriage return alone. One that stands last may be followed by a line feed. */
function endOfLine(bytes: Uint8Array, start: number): LineEnd | undefined {
  const feed = bytes.indexOf(lineFeed, start);
  const back = bytes.subarray(start, feed < 0 ? bytes.length : feed).indexOf(carriageReturn) + start;
  if (back >= start && back + 1 < bytes.length) {
    // `\r\r\n` ends lines on some terminals: returns before a line feed belong to it.
    let next = back + 1;
    while (bytes[next] === carriageReturn) next += 1;
    if (bytes[next] === lineFeed) return { kind: "feed", at: back, next: next + 1 };
    return next < bytes.length ? { kind: "return", at: back, next } : undefined;
  }
  return feed < 0 ? undefined : { kind: "feed", at: feed, next: feed + 1 };
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
