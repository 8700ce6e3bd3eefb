// Reads one output stream of an attempt from its segments: how long it is, its bytes at an offset, what was omitted, its
// digest. Leaves writing and the bound on the disk to the shim's relay, sending to log-shipper.ts.
// Invariants: offsets count what the relay took from the script; a byte that is gone is told as omitted, never invented.
// With a redactor nothing leaves unmasked: what may be the beginning of a secret stays back until it is decided.
import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { closeSync, existsSync, fstatSync, readSync } from "node:fs";
import type { LogContent } from "../shared/wire/log.ts";
import { logFrameBytes } from "../shared/wire/fields.ts";
import type { Edge, Redactor } from "./redact.ts";
import { openIfThere, readSegments, readSegmentsSync } from "./segment-reading.ts";
import { defaultSpoolBounds, listSegments, segmentPath } from "./segments.ts";

export interface SpoolOptions {
  /** Of the stream: its segments are `<path>.<start>`. */
  readonly path: string;
  /** From this size on a segment may have a successor. Default 4 MiB. */
  readonly segmentBytes?: number;
  /** Masks the script's secrets; without it a stream is read as it is. */
  readonly redactor?: Redactor | undefined;
}

interface OpenSegment {
  readonly start: number;
  readonly descriptor: number;
  size: number;
}

export class Spool {
  readonly #path: string;
  readonly #segmentBytes: number;
  readonly #redactor: Redactor | undefined;
  /** The segment that grows. */
  #last: OpenSegment | undefined;
  #size = 0;
  /** Up to here every byte is decided: whether it belongs to a secret or not. Without a redactor, all of them. */
  #decided = 0;
  /** Set when the stream is final: what a left-over process writes later does not count. */
  #end: number | undefined;
  readonly #hash: Hash = createHash("sha256");
  #hashed = 0;

  constructor(options: SpoolOptions) {
    this.#path = options.path;
    this.#redactor = options.redactor;
    this.#segmentBytes = options.segmentBytes ?? defaultSpoolBounds.segmentBytes;
  }

  /** What may be sent. */
  get size(): number {
    return this.#end ?? this.#decided;
  }

  /** Looks how long the stream is now. */
  refresh(): number {
    if (this.#end !== undefined) return this.#end;
    this.#last ??= this.#openLast();
    while (this.#last !== undefined) {
      this.#last.size = fstatSync(this.#last.descriptor).size;
      if (this.#last.size < this.#segmentBytes) break;
      // Its successor begins where it ends; both may be gone when nobody looked for long.
      const isGone = !existsSync(segmentPath(this.#path, this.#last.start));
      if (!isGone && !existsSync(segmentPath(this.#path, this.#last.start + this.#last.size))) break;
      const next = this.#openLast();
      if (next === undefined || next.start === this.#last.start) {
        if (next !== undefined) closeSync(next.descriptor);
        break;
      }
      closeSync(this.#last.descriptor);
      this.#last = next;
    }
    const before = this.#size;
    if (this.#last !== undefined) this.#size = this.#last.start + this.#last.size;
    if (this.#redactor === undefined) this.#decided = this.#size;
    else if (this.#size > before) this.#decided = Math.max(this.#decided, this.#decidedBy(this.#redactor));
    return this.#decided;
  }

  /** Where the longest end of the stream begins that a secret may begin with. */
  #decidedBy(redactor: Redactor): number {
    const { reach } = redactor;
    let from = Math.max(0, this.#size - reach);
    for (;;) {
      const tail = readSegmentsSync(this.#path, from, this.#size - from);
      if (from + tail.length >= this.#size || reach === 0) return this.#size - tail.length + redactor.openEnd(tail);
      // Something in between is gone by now: what comes after it counts.
      from = listSegments(this.#path).find((start) => start > from + tail.length) ?? this.#size;
    }
  }

  /** The stream is over at the length it has now, or at `length` when that is known from the journal. */
  seal(length?: number): number {
    this.refresh();
    this.#end ??= length ?? this.#size;
    return this.#end;
  }

  /** The next piece at `offset`: up to `most` bytes, or everything that is gone from there on. Undefined at the end. */
  async piece(offset: number, most: number = logFrameBytes): Promise<LogContent | undefined> {
    const count = Math.min(most, logFrameBytes, this.size - offset);
    if (count <= 0) return undefined;
    const bytes =
      this.#redactor === undefined
        ? (this.#readFresh(offset, count) ?? (await readSegments(this.#path, offset, count, "one")))
        : await this.#readMasked(this.#redactor, offset, count);
    return bytes.length > 0 ? this.#digest(offset, { bytes }) : this.#omitted(offset);
  }

  /**
   * Length and digest of a sealed stream. The digest covers the bytes that were sent, in order, without what was
   * omitted; after a restart of the agent, the bytes that are still there.
   */
  async digest(): Promise<{ readonly length: number; readonly sha256: string }> {
    const length = this.seal();
    while (this.#hashed < length) if ((await this.piece(this.#hashed)) === undefined) break;
    return { length, sha256: this.#hash.copy().digest("hex") };
  }

  close(): void {
    if (this.#last !== undefined) closeSync(this.#last.descriptor);
    this.#last = undefined;
  }

  #openLast(): OpenSegment | undefined {
    for (const start of listSegments(this.#path).toReversed()) {
      const descriptor = openIfThere(segmentPath(this.#path, start));
      if (descriptor !== undefined) return { start, descriptor, size: 0 };
    }
    return undefined;
  }

  /**
   * What was written a moment ago is in the page cache: reading it takes less than the way through the thread pool, where
   * it would wait behind the journal's syncs.
   */
  #readFresh(offset: number, count: number): Uint8Array<ArrayBuffer> | undefined {
    const isFresh = this.#end === undefined && this.#size - offset <= logFrameBytes;
    if (!isFresh || this.#last === undefined || offset < this.#last.start) return undefined;
    const bytes = Buffer.allocUnsafe(count);
    return bytes.subarray(0, readSync(this.#last.descriptor, bytes, 0, count, offset - this.#last.start));
  }

  /** With as much around it as decides each byte. What lies behind a cut is gone, for this reader and any later one. */
  async #readMasked(redactor: Redactor, offset: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    const { reach } = redactor;
    const to = Math.min(offset + count + reach, this.#end ?? this.#size);
    let from = Math.max(0, offset - reach);
    let before: Edge = "open";
    let bytes = await readSegments(this.#path, from, to - from, "all");
    while (from + bytes.length <= offset) {
      const next = listSegments(this.#path).findLast((start) => start <= offset && start > from + bytes.length);
      if (next === undefined) return new Uint8Array();
      [from, before] = [next, "cut"];
      bytes = await readSegments(this.#path, from, to - from, "all");
    }
    const after: Edge = from + bytes.length < to ? "cut" : "open";
    redactor.mask(bytes, { before, after });
    return bytes.subarray(offset - from, offset - from + count);
  }

  /** Nothing is at `offset`: up to the next segment it was removed, up to the sealed end it was never synced. */
  #omitted(offset: number): LogContent | undefined {
    const next = listSegments(this.#path).find((start) => start > offset) ?? this.#end;
    const to = Math.min(next ?? 0, this.size);
    return to > offset ? this.#digest(offset, { omitted: to - offset }) : undefined;
  }

  /** Takes a piece into the digest the first time its place in the stream comes by. */
  #digest(offset: number, content: LogContent): LogContent {
    const length = "bytes" in content ? content.bytes.length : content.omitted;
    if (offset > this.#hashed || offset + length <= this.#hashed) return content;
    if ("bytes" in content) this.#hash.update(content.bytes.subarray(this.#hashed - offset));
    this.#hashed = offset + length;
    return content;
  }
}
