// Work folders of attempts that failed, kept for people to look at: <data>/kept/<attempt>/work. Cleaned in the background.
// Invariant: what is kept is bounded in age, bytes and number, and goes, oldest first, before the agent has to refuse work
// for want of disk.
import { lstat, mkdir, readdir, rename, rm, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { Background } from "../shared/background.ts";
import type { Clock, Timer } from "../shared/clock.ts";
import { describeError, errnoOf } from "../shared/errors.ts";
import { attemptIdSchema, type AttemptId } from "../shared/ids.ts";
import type { Logger } from "../shared/logger.ts";

export interface KeptFoldersDeps {
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
  readonly freeBytes: () => number;
}

export interface KeptFoldersOptions {
  /** On the file system of the attempts' folders. */
  readonly path: string;
  readonly keptMs: number;
  /** Free space below which the oldest go. */
  readonly freeBytesAtLeast: number;
  /** All together. Default 1 GiB. */
  readonly bytesAtMost?: number;
  /** Default 1,000. */
  readonly foldersAtMost?: number;
}

interface Kept {
  readonly bytes: number;
  readonly atMs: number;
}

const sweepEveryMs = 60_000;
/** A tree of more is not measured, and not kept. */
const entriesAtMost = 100_000;

export class KeptFolders {
  readonly #deps: KeptFoldersDeps;
  readonly #options: Required<KeptFoldersOptions>;
  /** In the order in which they came to be kept. */
  readonly #kept = new Map<AttemptId, Kept>();
  /** One act on the folder at a time. */
  #line: Promise<void> = Promise.resolve();
  #timer: Timer | undefined;

  constructor(deps: KeptFoldersDeps, options: KeptFoldersOptions) {
    this.#deps = deps;
    this.#options = { bytesAtMost: 1024 ** 3, foldersAtMost: 1_000, ...options };
  }

  /** Finds what an earlier process kept; with a `keptMs` of 0 all of it goes. */
  start(): void {
    const { clock, background } = this.#deps;
    background.run("find the kept folders", () => this.#queue(() => this.#find()));
    this.#timer = clock.every(sweepEveryMs, () => {
      if (this.#kept.size > 0) background.run("clean the kept folders", () => this.#queue(() => this.#sweep()));
    });
  }

  async #find(): Promise<void> {
    const found: [AttemptId, Kept][] = [];
    for (const name of await readdir(this.#options.path).catch(() => [])) {
      const id = attemptIdSchema.safeParse(name);
      if (!id.success) continue;
      const folder = join(this.#options.path, name);
      const { mtimeMs } = await lstat(folder);
      found.push([id.data, { atMs: mtimeMs, bytes: await bytesOf(folder).catch(() => Infinity) }]);
    }
    for (const [id, kept] of found.toSorted(([, one], [, other]) => one.atMs - other.atMs)) this.#kept.set(id, kept);
    await this.#sweep();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Moves a work folder here, when there is anything in it. What cannot be kept is left where it is. */
  keep(attempt: AttemptId, work: string): Promise<void> {
    if (this.#options.keptMs === 0) return Promise.resolve();
    return this.#queue(async () => {
      const { clock, logger } = this.#deps;
      const folder = join(this.#options.path, attempt);
      try {
        if ((await readdir(work)).length === 0) return;
        const bytes = await bytesOf(work);
        if (bytes > this.#options.bytesAtMost) {
          logger.warn({ attempt, bytes }, "the work folder of a failed attempt is too large to be kept");
          return;
        }
        await mkdir(folder, { recursive: true, mode: 0o700 });
        await rename(work, join(folder, "work"));
        const atMs = clock.wallMs();
        await utimes(folder, atMs / 1_000, atMs / 1_000);
        this.#kept.set(attempt, { bytes, atMs });
        logger.info({ attempt, path: join(folder, "work") }, "kept the work folder of a failed attempt");
      } catch (cause) {
        if (errnoOf(cause) !== "ENOENT")
          logger.warn({ err: cause, attempt }, `cannot keep a work folder: ${describeError(cause)}`);
      }
      await this.#sweep();
    });
  }

  async #sweep(): Promise<void> {
    const { clock, freeBytes } = this.#deps;
    const { path, keptMs, bytesAtMost, foldersAtMost, freeBytesAtLeast } = this.#options;
    let total = [...this.#kept.values()].reduce((sum, { bytes }) => sum + bytes, 0);
    for (const [attempt, { bytes, atMs }] of this.#kept) {
      const isDue = clock.wallMs() - atMs >= keptMs;
      const isTooMuch = total > bytesAtMost || this.#kept.size > foldersAtMost || freeBytes() < freeBytesAtLeast;
      if (!isDue && !isTooMuch) continue;
      await rm(join(path, attempt), { recursive: true, force: true });
      this.#kept.delete(attempt);
      total -= bytes;
    }
  }

  #queue(act: () => Promise<void>): Promise<void> {
    const done = this.#line.then(act);
    this.#line = done.catch(() => undefined);
    return done;
  }
}

/** What the tree takes of the disk; links are not followed. Infinite for one with too many entries. */
async function bytesOf(root: string): Promise<number> {
  let bytes = 0;
  let entries = 0;
  const open = [root];
  for (let folder = open.pop(); folder !== undefined; folder = open.pop()) {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (++entries > entriesAtMost) return Infinity;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) open.push(path);
      bytes += (await lstat(path)).blocks * 512;
    }
  }
  return bytes;
}
