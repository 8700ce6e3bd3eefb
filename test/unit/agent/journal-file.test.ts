// The journal on a disk in memory: what it refuses to open, and what a welcome leaves of its past.
import { describe, expect, test } from "vitest";
import { Journal } from "../../../agent/journal.ts";
import type { JournalDisk } from "../../../agent/journal-disk.ts";
import { encodeJournalFrame, scanJournal } from "../../../agent/journal-frame.ts";
import { decodeNumberedRecord, encodeRecord } from "../../../agent/journal-record.ts";
import { attemptIdSchema, type AttemptId } from "../../../shared/ids.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { SystemRandom } from "../../../shared/random.ts";

const path = "/data/journal";
const attemptId = (no: number): AttemptId => attemptIdSchema.parse(`00000000-0000-7000-8000-00000000000${no}`);

class MemoryDisk implements JournalDisk {
  /** A handle holds its file, whatever name that has by then. */
  readonly #files = new Map<string, { data: Buffer }>();
  syncedDirectories = 0;

  get data(): Buffer | undefined {
    return this.#files.get(path)?.data;
  }

  set data(data: Buffer) {
    this.#files.set(path, { data });
  }

  read(): Promise<Buffer | undefined> {
    return Promise.resolve(this.data);
  }

  open(at: string, mode: "append" | "fresh"): ReturnType<JournalDisk["open"]> {
    const file = (mode === "append" ? this.#files.get(at) : undefined) ?? { data: Buffer.alloc(0) };
    this.#files.set(at, file);
    return Promise.resolve({
      write: (bytes, from) => {
        file.data = Buffer.concat([file.data, bytes.subarray(from)]);
        return Promise.resolve({ bytesWritten: bytes.length - from });
      },
      truncate: (length) => {
        file.data = file.data.subarray(0, length);
        return Promise.resolve();
      },
      datasync: () => Promise.resolve(),
      sync: () => Promise.resolve(),
      close: () => Promise.resolve(),
    });
  }

  rename(from: string, to: string): Promise<void> {
    const file = this.#files.get(from);
    this.#files.delete(from);
    if (file !== undefined) this.#files.set(to, file);
    return Promise.resolve();
  }

  remove(): Promise<void> {
    return Promise.resolve();
  }

  syncDirectory(): Promise<void> {
    this.syncedDirectories += 1;
    return Promise.resolve();
  }
}

const journalOn = (disk: JournalDisk): Journal =>
  new Journal({ logger: silentLogger, random: new SystemRandom(), disk }, { path, hostBootId: "host" });

async function boot(disk: JournalDisk): Promise<Journal> {
  const journal = journalOn(disk);
  await journal.open();
  return journal;
}

test("the name of a journal is on disk after every start, whoever made the file", async () => {
  const disk = new MemoryDisk();
  // Made by a process that died before it synced the directory.
  disk.data = Buffer.alloc(0);
  await boot(disk);
  expect(disk.syncedDirectories).toBe(1);
});

describe("a damaged journal", () => {
  test("that lost its only boot is not opened, for no node could be greeted with it", async () => {
    const disk = new MemoryDisk();
    const first = await boot(disk);
    const { id } = first;
    const boots = Buffer.from(disk.data ?? Buffer.alloc(0));
    boots.writeUInt8(boots.readUInt8(boots.length - 3) ^ 4, boots.length - 3);
    disk.data = boots;
    await expect(boot(disk)).rejects.toMatchObject({ code: "journal.corrupt" });
    expect(id).toMatch(/-/);
  });

  test("that still has an earlier boot is read and never written", async () => {
    const disk = new MemoryDisk();
    const earlier = await boot(disk);
    const { counter } = earlier.boot;
    const later = { kind: "boot", counter: counter + 1, bootId: earlier.boot.bootId, hostBootId: "host" } as const;
    disk.data = Buffer.concat([disk.data ?? Buffer.alloc(0), encodeJournalFrame(encodeRecord(later, 2))]);
    const damaged = Buffer.from(disk.data ?? Buffer.alloc(0));
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 3) ^ 4, damaged.length - 3);
    disk.data = damaged;
    const journal = await boot(disk);
    expect(journal.corruption).toMatchObject({ code: "journal.corrupt" });
    expect(journal.boot.counter).toBe(counter);
    expect(disk.data).toEqual(damaged);
  });

  test("cut in its boot record begins a new boot instead", async () => {
    const disk = new MemoryDisk();
    const { id } = await boot(disk);
    disk.data = (disk.data ?? Buffer.alloc(0)).subarray(0, -5);
    const journal = await boot(disk);
    expect(journal).toMatchObject({ id, corruption: undefined });
    expect(journal.boot.counter).toBe(1);
  });
});

describe("the records of a journal carry their place", () => {
  const recordsIn = (disk: MemoryDisk): { payload: Buffer; no: number | undefined }[] =>
    scanJournal(disk.data ?? Buffer.alloc(0)).payloads.map((payload) => ({
      payload,
      no: decodeNumberedRecord(payload).no,
    }));
  const written = (payloads: readonly Buffer[]): Buffer =>
    Buffer.concat(payloads.map((payload) => encodeJournalFrame(payload)));

  test("counted anew when the file is rewritten, and one lost or doubled is damage", async () => {
    const disk = new MemoryDisk();
    // A file that was there is rewritten at once; what follows is appended to it.
    for (let no = 0; no < 3; no += 1) await (await boot(disk)).append({ kind: "closed", attempts: [attemptId(no)] });
    const records = recordsIn(disk);
    expect(records.map(({ no }) => no)).toEqual(records.map((_record, index) => index));
    const payloads = records.map(({ payload }) => payload);
    const last = payloads.at(-1) ?? Buffer.alloc(0);
    for (const broken of [payloads.toSpliced(-2, 1), [...payloads, last]]) {
      disk.data = written(broken);
      expect((await boot(disk)).corruption).toMatchObject({ message: expect.stringContaining("stands at place") });
    }
  });

  test("which those of an earlier version lack: they are read, and later ones go on counting", async () => {
    const disk = new MemoryDisk();
    await boot(disk);
    disk.data = written(recordsIn(disk).map(({ payload }) => encodeRecord(decodeNumberedRecord(payload).record)));
    const journal = await boot(disk);
    expect(journal.corruption).toBeUndefined();
    expect((await boot(disk)).boot.counter).toBe(journal.boot.counter + 1);
  });
});

describe("the boots a hello names", () => {
  test("are all of this journal until a node welcomed it, and then the last sixteen", async () => {
    const disk = new MemoryDisk();
    let journal = await boot(disk);
    const oldest = journal.boot.bootId;
    for (let no = 0; no < 30; no += 1) journal = await boot(disk);
    expect(journal.state.lineage).toHaveLength(31);
    expect(journal.state.lineage[0]).toBe(oldest);
    journal.welcomed();
    expect(journal.state.lineage).toHaveLength(16);
    expect(journal.state.lineage.at(-1)).toBe(journal.boot.bootId);
    await journal.close();
    const next = await boot(disk);
    expect(next.state.lineage.slice(0, -1)).toEqual(journal.state.lineage);
  });

  test("of a journal written before they were kept are its boot records", async () => {
    const disk = new MemoryDisk();
    const journal = await boot(disk);
    disk.data = Buffer.concat(
      [
        { kind: "journal", format: 1, id: journal.id } as const,
        { kind: "boot", ...journal.boot, hostBootId: "host" } as const,
      ].map((record) => encodeJournalFrame(encodeRecord(record))),
    );
    const next = await boot(disk);
    expect(next.state.lineage).toEqual([journal.boot.bootId, next.boot.bootId]);
  });
});
