// The journal on a disk in memory: what it refuses to open, and what a welcome leaves of its past.
import { describe, expect, test } from "vitest";
import { Journal } from "../../../agent/journal.ts";
import type { JournalDisk } from "../../../agent/journal-disk.ts";
import { encodeJournalFrame } from "../../../agent/journal-frame.ts";
import { encodeRecord } from "../../../agent/journal-record.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { systemRandom } from "../../../shared/random.ts";

class MemoryDisk implements JournalDisk {
  data: Buffer | undefined;
  syncedDirectories = 0;

  read(): Promise<Buffer | undefined> {
    return Promise.resolve(this.data);
  }

  open(): ReturnType<JournalDisk["open"]> {
    this.data ??= Buffer.alloc(0);
    return Promise.resolve({
      write: (bytes, from) => {
        this.data = Buffer.concat([this.data ?? Buffer.alloc(0), bytes.subarray(from)]);
        return Promise.resolve({ bytesWritten: bytes.length - from });
      },
      truncate: (length) => {
        this.data = this.data?.subarray(0, length);
        return Promise.resolve();
      },
      datasync: () => Promise.resolve(),
      sync: () => Promise.resolve(),
      close: () => Promise.resolve(),
    });
  }

  rename(): Promise<void> {
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
  new Journal({ logger: silentLogger, random: systemRandom, disk }, { path: "/data/journal", hostBootId: "host" });

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
    await boot(disk);
    const counter = (await boot(disk)).boot.counter;
    const damaged = Buffer.from(disk.data ?? Buffer.alloc(0));
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 3) ^ 4, damaged.length - 3);
    disk.data = damaged;
    const journal = await boot(disk);
    expect(journal.corruption).toMatchObject({ code: "journal.corrupt" });
    expect(journal.boot.counter).toBe(counter - 1);
    expect(disk.data).toEqual(damaged);
  });

  test("cut in its boot record begins a new boot instead", async () => {
    const disk = new MemoryDisk();
    const { id } = await boot(disk);
    disk.data = disk.data?.subarray(0, disk.data.length - 5);
    const journal = await boot(disk);
    expect(journal).toMatchObject({ id, corruption: undefined });
    expect(journal.boot.counter).toBe(1);
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
