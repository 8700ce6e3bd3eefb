// The agent's durable record: an append-only file, one fdatasync shared by all that wait, rewritten when it has grown.
// Leaves the meaning of records to journal-state.ts and exclusivity to data-lock.ts.
// Invariant: nothing is reported durable before its bytes are synced; a damaged journal is never written to.
import { dirname } from "node:path";
import { AppError, describeError, errnoOf } from "../shared/errors.ts";
import type { BootId, JournalId } from "../shared/ids.ts";
import { journalIdSchema, bootIdSchema } from "../shared/ids.ts";
import type { Logger } from "../shared/logger.ts";
import type { Random } from "../shared/random.ts";
import { reached } from "../shared/steps.ts";
import type { JournalDisk, JournalFile } from "./journal-disk.ts";
import { nodeJournalDisk } from "./journal-disk.ts";
import { foldJournal } from "./journal-fold.ts";
import { encodeJournalFrame } from "./journal-frame.ts";
import type { JournalRecord } from "./journal-record.ts";
import { encodeRecord } from "./journal-record.ts";
import type { JournalState } from "./journal-state.ts";
import { applyRecord, emptyJournalState, snapshotRecords } from "./journal-state.ts";

export interface JournalOptions {
  readonly path: string;
  /** The host's boot id, kept with every boot and start. */
  readonly hostBootId: string;
  /** Size from which the file is rewritten once it is also twice its last rewritten size. Default 16 MiB. */
  readonly compactBytes?: number;
}

export interface JournalDeps {
  readonly logger: Logger;
  readonly random: Random;
  readonly disk?: JournalDisk;
  /** Called once when the disk is full: frees the reserve, so that results still find room. */
  readonly freeReserve?: () => Promise<void>;
}

/** A rewrite that failed is tried again after the file grew by this, or by an eighth. */
const leastGrowth = 64 * 1024;
const lineageKept = 16;

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (cause: unknown) => void;
}

type Mode =
  | { readonly kind: "closed" }
  | { readonly kind: "open"; readonly handle: JournalFile }
  | { readonly kind: "read-only"; readonly why: AppError }
  | { readonly kind: "failed"; readonly why: AppError };

export class Journal {
  readonly #deps: JournalDeps;
  readonly #disk: JournalDisk;
  readonly #options: JournalOptions;
  readonly state: JournalState = emptyJournalState();
  #mode: Mode = { kind: "closed" };
  /** Taken and not written yet. They get their numbers as they are written: a rewritten file counts anew. */
  #records: JournalRecord[] = [];
  #waiters: Waiter[] = [];
  #bytes = 0;
  /** In the file: the number of the next one. */
  #count = 0;
  /** Size at which the file is rewritten next. */
  #compactAtBytes = 0;
  #writing: Promise<void> | undefined;

  constructor(deps: JournalDeps, options: JournalOptions) {
    this.#deps = deps;
    this.#disk = deps.disk ?? nodeJournalDisk;
    this.#options = options;
  }

  /**
   * Reads the file, or creates it with a random id, and appends this process's boot record, synced.
   * Damage other than a torn tail leaves the journal readable and read-only; see {@link corruption}. Rejects with
   * `journal.corrupt` when the damage took the id or every boot, for no node can be greeted without them.
   */
  async open(): Promise<void> {
    const { path } = this.#options;
    const file = await this.#disk.read(path);
    if (file !== undefined && !this.#fold(file)) return;
    const handle = await this.#disk.open(path, "append");
    this.#mode = { kind: "open", handle };
    if (file !== undefined) await this.#dropTail(handle, file.length);
    if (this.state.id === undefined) this.#append({ kind: "journal", format: 1, id: this.#newId(journalIdSchema) });
    const bootId = this.#newId(bootIdSchema);
    const counter = (this.state.boot?.counter ?? 0) + 1;
    await this.append({ kind: "boot", counter, bootId, hostBootId: this.#options.hostBootId });
    // Also of a file that was there: whoever made or renamed it may have died before its name was on disk.
    await this.#disk.syncDirectory(dirname(path));
    this.#compactAtBytes = this.#nextCompaction(this.#bytes);
  }

  /** Why the journal takes no records and the agent no work; undefined when it is sound. */
  get corruption(): AppError | undefined {
    return this.#mode.kind === "read-only" ? this.#mode.why : undefined;
  }

  /** Of the file. */
  get bytes(): number {
    return this.#bytes;
  }

  get id(): JournalId {
    if (this.state.id === undefined) throw new AppError("journal.corrupt", `${this.#options.path} holds no journal id`);
    return this.state.id;
  }

  get boot(): { readonly counter: number; readonly bootId: BootId } {
    if (this.state.boot === undefined)
      throw new AppError("journal.corrupt", `${this.#options.path} holds no boot record`);
    return this.state.boot;
  }

  /** Appends and resolves when it is on disk. Rejects with `disk.full` or `internal` when it cannot be. */
  append(record: JournalRecord): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const failure = this.#append(record);
      if (failure !== undefined) {
        reject(failure);
        return;
      }
      reached("recording", record.kind);
      const recorded = (): void => {
        reached("recorded", record.kind);
        resolve();
      };
      this.#waiters.push({ resolve: recorded, reject });
      this.#schedule();
    });
  }

  /** Appends without anybody waiting: it becomes durable with the next record somebody waits for, or at close. */
  note(record: JournalRecord): void {
    if (this.#append(record) !== undefined) return;
    reached("recording", record.kind);
    this.#schedule();
  }

  /**
   * A node welcomed this process. Of the boots before it a few stay, for a database that fails over may know an older one.
   */
  welcomed(): void {
    const { lineage } = this.state;
    if (lineage.length > lineageKept) this.note({ kind: "lineage", boots: lineage.slice(-lineageKept) });
  }

  async close(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    if (this.#mode.kind !== "open") return;
    const { handle } = this.#mode;
    this.#mode = { kind: "closed" };
    await handle.close();
  }

  /** False when the file is damaged; what can be read is in `state` all the same. */
  #fold(file: Buffer): boolean {
    const { end, records, why } = foldJournal(this.state, file, this.#options.path);
    if (why === undefined && file.length > 0 && end === 0)
      this.#deps.logger.warn({ bytes: file.length }, "the journal held no whole record");
    if (why !== undefined) {
      if (this.state.id === undefined || this.state.boot === undefined) throw why;
      this.#bytes = file.length;
      this.#mode = { kind: "read-only", why };
      return false;
    }
    this.#bytes = end;
    this.#count = records;
    return true;
  }

  async #dropTail(handle: JournalFile, length: number): Promise<void> {
    if (length === this.#bytes) return;
    this.#deps.logger.warn(
      { dropped: length - this.#bytes },
      "dropped the journal's torn tail; it was never acknowledged",
    );
    await handle.truncate(this.#bytes);
    await handle.sync();
  }

  #newId<T>(schema: { parse(value: string): T }): T {
    const bytes = Buffer.from(this.#deps.random.bytes(16));
    bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
    bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
    return schema.parse(bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"));
  }

  #append(record: JournalRecord): AppError | undefined {
    if (this.#mode.kind === "read-only" || this.#mode.kind === "failed") return this.#mode.why;
    if (this.#mode.kind === "closed") return new AppError("aborted", "the journal is closed");
    applyRecord(this.state, record);
    this.#records.push(record);
    return undefined;
  }

  #schedule(): void {
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
      if (this.#records.length > 0 && this.#mode.kind === "open") this.#schedule();
    });
  }

  async #writeAll(): Promise<void> {
    // One turn of the loop, so that everything a burst of frames causes shares the first sync.
    await Promise.resolve();
    while (this.#records.length > 0 && this.#mode.kind === "open") {
      const records = this.#records;
      const waiters = this.#waiters;
      this.#records = [];
      this.#waiters = [];
      try {
        const { handle } = this.#mode;
        if (!(await this.#compactIfDue())) await this.#write(handle, records, waiters.length > 0);
        for (const waiter of waiters) waiter.resolve();
      } catch (cause) {
        const why = AppError.from(cause);
        // The state in memory is ahead of the disk: nothing more may be decided on it.
        const { handle } = this.#mode;
        this.#mode = { kind: "failed", why };
        await handle.close().catch(() => undefined);
        for (const waiter of [...waiters, ...this.#waiters]) waiter.reject(why);
        this.#waiters = [];
      }
    }
  }

  async #write(handle: JournalFile, records: readonly JournalRecord[], isAwaited: boolean): Promise<void> {
    const bytes = framesOf(records, this.#count);
    try {
      await writeWhole(handle, bytes);
    } catch (cause) {
      if (errnoOf(cause) !== "ENOSPC" || this.#deps.freeReserve === undefined) throw cause;
      this.#deps.logger.warn({ path: this.#options.path }, "the disk is full: the reserve is given up for the journal");
      await handle.truncate(this.#bytes);
      await this.#deps.freeReserve();
      await writeWhole(handle, bytes);
    }
    if (isAwaited) await handle.datasync();
    this.#bytes += bytes.length;
    this.#count += records.length;
  }

  #nextCompaction(bytes: number): number {
    return Math.max(this.#options.compactBytes ?? 16 * 1024 * 1024, 2 * bytes);
  }

  /** True when the file was rewritten, and with it everything taken so far. */
  async #compactIfDue(): Promise<boolean> {
    if (this.#bytes <= this.#compactAtBytes) return false;
    const { path } = this.#options;
    // The state holds every record taken so far, so the snapshot covers those it replaces; no await before it.
    const snapshot = [...snapshotRecords(this.state)];
    const bytes = framesOf(snapshot, 0);
    const next = await this.#writeNew(`${path}.new`, bytes);
    if (next === undefined) return false;
    const before = this.#mode;
    this.#mode = { kind: "open", handle: next };
    this.#deps.logger.info({ beforeBytes: this.#bytes, afterBytes: bytes.length }, "rewrote the journal");
    this.#bytes = bytes.length;
    this.#count = snapshot.length;
    this.#compactAtBytes = this.#nextCompaction(bytes.length);
    if (before.kind === "open") await before.handle.close();
    await this.#disk.syncDirectory(dirname(path));
    return true;
  }

  /** The rewritten journal in its place. Undefined when there is no room, or anything else: then the old one goes on. */
  async #writeNew(path: string, bytes: Buffer): Promise<JournalFile | undefined> {
    let next: JournalFile | undefined;
    try {
      // For appending, as the handle it replaces: a write cut short by a full disk is truncated and written again.
      next = await this.#disk.open(path, "fresh");
      await writeWhole(next, bytes);
      await next.sync();
      await this.#disk.rename(path, this.#options.path);
      return next;
    } catch (cause) {
      this.#deps.logger.warn(
        { err: cause },
        `the journal could not be rewritten and grows on: ${describeError(cause)}`,
      );
      await next?.close().catch(() => undefined);
      await this.#disk.remove(path).catch(() => undefined);
      this.#compactAtBytes = this.#bytes + Math.max(leastGrowth, this.#bytes / 8);
      return undefined;
    }
  }
}

/** The first of them is the file's `from`-th record. */
function framesOf(records: readonly JournalRecord[], from: number): Buffer {
  return Buffer.concat(records.map((record, index) => encodeJournalFrame(encodeRecord(record, from + index))));
}

async function writeWhole(handle: JournalFile, bytes: Buffer): Promise<void> {
  let at = 0;
  while (at < bytes.length) at += (await handle.write(bytes, at)).bytesWritten;
}
