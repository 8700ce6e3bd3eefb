// One output file of an attempt: how much was produced, what was punched out of its middle, its bytes on demand.
// Leaves pacing to log-shipper.ts. Offsets count bytes produced. Invariant: what is read is what the script wrote; a
// range that is or may be punched is never read but answered as omitted.
import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { closeSync, fstatSync, openSync, read, readSync } from "node:fs";
import { AppError, errnoOf } from "../shared/errors.ts";
import type { LogContent } from "../shared/wire/log.ts";
import { logFrameBytes } from "../shared/wire/fields.ts";
import { punchHole, readHole, reserveHole, writeHole } from "./spool-hole.ts";
import type { PunchHole } from "./spool-hole.ts";

export interface SpoolOptions {
  readonly path: string;
  /** Bytes from the start and from the end of a stream that are always kept. Default 16 MiB and 48 MiB. */
  readonly headBytes: number;
  readonly tailBytes: number;
  /** Punched at a time, at least; less is not worth a process. Default 4 MiB. */
  readonly punchBytes: number;
}

export interface SpoolDeps {
  readonly punchHole: PunchHole;
}

export const defaultSpoolOptions = {
  headBytes: 16 * 1024 * 1024,
  tailBytes: 48 * 1024 * 1024,
  punchBytes: 4 * 1024 * 1024,
} as const;

const pageBytes = 4_096;

export class Spool {
  readonly #options: SpoolOptions;
  readonly #deps: SpoolDeps;
  #descriptor: number | undefined;
  #size = 0;
  /** Set when the stream is final: what a left-over process writes later does not count. */
  #end: number | undefined;
  /** The hole is [headBytes, #holeEnd): one per stream, it only grows, and its marker is on disk. */
  #holeEnd = 0;
  /** What is being punched, up to `to`: neither output nor omitted until it is over. */
  #punching: { readonly to: number; readonly done: Promise<void> } | undefined;
  /** Room for a marker, taken once a hole is to be expected. */
  #reserving: Promise<void> | undefined;
  readonly #hash: Hash = createHash("sha256");
  #hashed = 0;

  constructor(options: SpoolOptions, deps: SpoolDeps = { punchHole }) {
    this.#options = options;
    this.#deps = deps;
    this.#holeEnd = readHole(options.path);
  }

  get size(): number {
    return this.#end ?? this.#size;
  }

  /** Looks how long the file is now. */
  refresh(): number {
    if (this.#end !== undefined) return this.#end;
    this.#descriptor ??= openIfThere(this.#options.path);
    if (this.#descriptor !== undefined) this.#size = fstatSync(this.#descriptor).size;
    return this.#size;
  }

  /** The stream is over at the length it has now, or at `length` when that is known from the journal. */
  seal(length?: number): number {
    this.refresh();
    this.#end ??= length ?? this.#size;
    return this.#end;
  }

  /** The next piece at `offset`: up to `most` bytes, or everything punched from there on. Undefined at the end. */
  async piece(offset: number, most: number = logFrameBytes): Promise<LogContent | undefined> {
    const { headBytes } = this.#options;
    for (;;) {
      const omitted = this.#omittedAt(offset);
      if (omitted > 0) return this.#digest(offset, { omitted });
      // Whether these bytes are omitted is known once the punch is over: it may fail, and then they are not.
      await this.#punchedAt(offset);
      if (this.#omittedAt(offset) > 0) continue;
      const count = Math.min(
        most,
        logFrameBytes,
        this.size - offset,
        offset < headBytes ? headBytes - offset : logFrameBytes,
      );
      this.#descriptor ??= openIfThere(this.#options.path);
      if (count <= 0) return undefined;
      if (this.#descriptor === undefined) return this.#lost(offset);
      // What was written a moment ago is in the page cache: reading it takes less than the way through the thread pool,
      // where it would wait behind the journal's syncs.
      const isFresh = this.#end === undefined && this.#size - offset <= logFrameBytes;
      const bytes = isFresh ? readNow(this.#descriptor, offset, count) : await readAt(this.#descriptor, offset, count);
      // Punched while it was read: the zeros of the hole must not pass for output.
      if (this.#omittedAt(offset) > 0 || this.#punchedAt(offset) !== undefined) continue;
      return bytes.length === 0 ? this.#lost(offset) : this.#digest(offset, { bytes });
    }
  }

  /**
   * Length and digest of a sealed stream. The digest covers the bytes that were sent, in order, without what was
   * omitted; after a restart of the agent, the bytes that are still in the file.
   */
  async digest(): Promise<{ readonly length: number; readonly sha256: string }> {
    const length = this.seal();
    // That a hole could not be punched costs room, never the result.
    await this.#punching?.done.catch(() => undefined);
    await this.#reserving;
    while (this.#hashed < length) if ((await this.piece(this.#hashed)) === undefined) break;
    return { length, sha256: this.#hash.copy().digest("hex") };
  }

  /**
   * Punches what exceeds head and tail; undefined when there is too little or one is under way. Rejects with
   * `disk.full` or `internal` when nothing could be punched; then nothing is omitted and it may be tried again.
   */
  punch(): Promise<void> | undefined {
    if (this.#punching !== undefined || this.#end !== undefined || this.#descriptor === undefined) return undefined;
    const { headBytes, tailBytes, punchBytes, path } = this.#options;
    if (this.#size > headBytes) this.#reserving ??= reserveHole(path).catch(() => undefined);
    const from = Math.max(headBytes, this.#holeEnd);
    const to = Math.floor((this.#size - tailBytes) / pageBytes) * pageBytes;
    if (to - from < punchBytes) return undefined;
    const done = this.#punch(from, to).finally(() => {
      this.#punching = undefined;
    });
    this.#punching = { to, done };
    return done;
  }

  async #punch(from: number, to: number): Promise<void> {
    const { path } = this.#options;
    await this.#reserving;
    // Written down before a byte goes, so that no later process takes the hole for output.
    await writeHole(path, to).catch((cause: unknown) => {
      throw AppError.from(cause, errnoOf(cause) === "ENOSPC" ? "disk.full" : "internal");
    });
    const outcome = await this.#deps.punchHole(path, from, to - from);
    if (outcome.kind === "refused") {
      // A marker that cannot be taken back costs a successor bytes it could have sent; it never invents any.
      await writeHole(path, this.#holeEnd).catch(() => undefined);
      throw new AppError("internal", outcome.why);
    }
    this.#holeEnd = to;
    this.#reserving = reserveHole(path).catch(() => undefined);
    if (outcome.kind === "unclear") throw new AppError("internal", outcome.why);
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  /** A sealed stream whose file is shorter than its record: power loss took what was never synced. */
  #lost(offset: number): LogContent | undefined {
    return this.#end === undefined || offset >= this.#end
      ? undefined
      : this.#digest(offset, { omitted: this.#end - offset });
  }

  #omittedAt(offset: number): number {
    return offset >= this.#options.headBytes && offset < this.#holeEnd ? this.#holeEnd - offset : 0;
  }

  /** The end of the punch that may be taking the bytes at `offset` now. */
  #punchedAt(offset: number): Promise<void> | undefined {
    if (this.#punching === undefined || offset < this.#options.headBytes || offset >= this.#punching.to)
      return undefined;
    return this.#punching.done.catch(() => undefined);
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

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return undefined;
    throw cause;
  }
}

function readNow(descriptor: number, offset: number, most: number): Uint8Array<ArrayBuffer> {
  const bytes = Buffer.allocUnsafe(most);
  return bytes.subarray(0, readSync(descriptor, bytes, 0, most, offset));
}

function readAt(descriptor: number, offset: number, most: number): Promise<Uint8Array<ArrayBuffer>> {
  return new Promise((resolve, reject) => {
    const bytes = Buffer.allocUnsafe(most);
    read(descriptor, bytes, 0, most, offset, (error, count) => {
      if (error === null) resolve(bytes.subarray(0, count));
      else reject(error);
    });
  });
}
