// One output file of an attempt: how much was produced, what was punched out of its middle, its bytes on demand.
// Leaves pacing to log-shipper.ts. Offsets count bytes produced. Invariant: what is read is what the script wrote; a
// range that is or may be punched is never read but answered as omitted.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { closeSync, fstatSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { read } from "node:fs";
import { errnoOf } from "../shared/errors.ts";
import type { LogContent } from "../shared/wire/log.ts";
import { logFrameBytes } from "../shared/wire/fields.ts";

export interface SpoolOptions {
  readonly path: string;
  /** Bytes from the start and from the end of a stream that are always kept. Default 16 MiB and 48 MiB. */
  readonly headBytes: number;
  readonly tailBytes: number;
  /** Punched at a time, at least; less is not worth a process. Default 4 MiB. */
  readonly punchBytes: number;
}

export const defaultSpoolOptions = {
  headBytes: 16 * 1024 * 1024,
  tailBytes: 48 * 1024 * 1024,
  punchBytes: 4 * 1024 * 1024,
} as const;

const pageBytes = 4_096;

export class Spool {
  readonly #options: SpoolOptions;
  #descriptor: number | undefined;
  #size = 0;
  /** Set when the stream is final: what a left-over process writes later does not count. */
  #end: number | undefined;
  /** The hole is [headBytes, #holeEnd): one per stream, and it only grows. */
  #holeEnd = 0;
  #punching: Promise<void> | undefined;
  readonly #hash: Hash = createHash("sha256");
  #hashed = 0;

  constructor(options: SpoolOptions) {
    this.#options = options;
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
    const omitted = this.#omittedAt(offset);
    if (omitted > 0) return this.#digest(offset, { omitted });
    const { headBytes } = this.#options;
    const count = Math.min(
      most,
      logFrameBytes,
      this.size - offset,
      offset < headBytes ? headBytes - offset : logFrameBytes,
    );
    this.#descriptor ??= openIfThere(this.#options.path);
    if (count <= 0) return undefined;
    if (this.#descriptor === undefined) return this.#lost(offset);
    const bytes = await readAt(this.#descriptor, offset, count);
    // Punched while it was read: the zeros of the hole must not pass for output.
    const since = this.#omittedAt(offset);
    if (since > 0) return this.#digest(offset, { omitted: since });
    return bytes.length === 0 ? this.#lost(offset) : this.#digest(offset, { bytes });
  }

  /**
   * Length and digest of a sealed stream. The digest covers the bytes that were sent, in order, without what was
   * omitted; after a restart of the agent, the bytes that are still in the file.
   */
  async digest(): Promise<{ readonly length: number; readonly sha256: string }> {
    const length = this.seal();
    await this.#punching;
    while (this.#hashed < length) if ((await this.piece(this.#hashed)) === undefined) break;
    return { length, sha256: this.#hash.copy().digest("hex") };
  }

  get isPunching(): boolean {
    return this.#punching !== undefined;
  }

  /** Punches what exceeds head and tail; resolves at once when there is too little. Only one at a time. */
  punch(): Promise<void> | undefined {
    if (this.#punching !== undefined || this.#end !== undefined || this.#descriptor === undefined)
      return this.#punching;
    const { headBytes, tailBytes, punchBytes, path } = this.#options;
    const from = Math.max(headBytes, this.#holeEnd);
    const to = Math.floor((this.#size - tailBytes) / pageBytes) * pageBytes;
    if (to - from < punchBytes) return undefined;
    // Written down before a byte goes, so that neither a reader nor a later process takes the hole for output.
    this.#holeEnd = to;
    writeFileSync(`${path}.hole`, `${to}\n`);
    this.#punching = punchHole(path, from, to - from).finally(() => {
      this.#punching = undefined;
    });
    return this.#punching;
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

function readHole(path: string): number {
  try {
    const end = Number(readFileSync(`${path}.hole`, "utf8"));
    return Number.isSafeInteger(end) ? end : 0;
  } catch {
    return 0;
  }
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

/** Node has no fallocate; the program of util-linux (and busybox) costs about 1 ms. */
function punchHole(path: string, offset: number, length: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      "fallocate",
      ["--punch-hole", "--keep-size", "--offset", String(offset), "--length", String(length), path],
      {
        stdio: "ignore",
      },
    );
    child.on("error", reject);
    child.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`fallocate ended with ${code}`))));
  });
}
