// The disk of one machine as the journal sees it: what was written, what of it is synced, and what a power loss leaves.
import type { JournalDisk, JournalFile } from "../../agent/journal-disk.ts";
import type { SimProcess } from "./kernel/process.ts";
import type { SeededRandom } from "./kernel/random.ts";

interface FileNode {
  data: Buffer;
  /** Bytes that survive a power loss for certain. */
  synced: number;
}

const sectorBytes = 512;
const borderBytes = 64;

export class SimDisk {
  readonly #random: SeededRandom;
  #names = new Map<string, FileNode>();
  /** The directory as it would be after a power loss. */
  #syncedNames = new Map<string, FileNode>();
  isFull = false;
  /** Given up once, when the disk is full. */
  hasReserve = true;
  /** Longest sync, milliseconds. */
  slowestSyncMs = 3;
  /** Told of every write before anything can sync it, and whether it ends right behind a sector's border. */
  onWrite: (end: "sector-begun" | "elsewhere") => void = () => undefined;

  /** Told of every new file, whose name nobody has synced. */
  onMake: () => void = () => undefined;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  #syncs = 0;

  /** Whether somebody waits for what a power loss may still take. */
  get isSyncing(): boolean {
    return this.#syncs > 0;
  }

  /** This disk for one process of the machine; when that dies, nothing more is written. */
  forProcess(process: SimProcess): JournalDisk {
    // What an earlier process waited for, nobody waits for any more.
    this.#syncs = 0;
    const later = (mostMs: number): Promise<void> =>
      new Promise((resolve) => process.schedule(this.#random.skewed(0.05, mostMs), resolve));
    const mayAct = (): boolean => process.mayAct();
    /** What a dead process waits for never comes. */
    const act = async (mostMs: number, change: () => void): Promise<void> => {
      if (!mayAct()) return new Promise(() => undefined);
      const half = mostMs / 2;
      await later(half);
      if (!process.isUp) return new Promise(() => undefined);
      change();
      // Durable some time before the process hears of it.
      await later(half);
    };
    return {
      read: async (path) => {
        await later(0.5);
        const node = this.#names.get(path);
        return node === undefined ? undefined : Buffer.from(node.data);
      },
      open: async (path, mode) => {
        let node = this.#names.get(path);
        await act(0.5, () => {
          if (node === undefined) {
            node = { data: Buffer.alloc(0), synced: 0 };
            this.#names.set(path, node);
            this.onMake();
          } else if (mode === "fresh") {
            node.data = Buffer.alloc(0);
            node.synced = 0;
          }
        });
        if (node === undefined) throw new Error("a dead process opened a file");
        return this.#file(node, act);
      },
      rename: (from, to) =>
        act(0.5, () => {
          const node = this.#names.get(from);
          if (node === undefined) return;
          this.#names.delete(from);
          this.#names.set(to, node);
        }),
      remove: (path) => act(0.5, () => void this.#names.delete(path)),
      syncDirectory: () =>
        act(this.slowestSyncMs, () => {
          this.#syncedNames = new Map(this.#names);
        }),
    };
  }

  #file(node: FileNode, act: (mostMs: number, change: () => void) => Promise<void>): JournalFile {
    return {
      write: async (bytes, from) => {
        let bytesWritten = 0;
        await act(0.3, () => {
          if (this.isFull) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
          const rest = bytes.subarray(from);
          bytesWritten = this.#random.chance(0.02) ? Math.ceil(rest.length / 2) : rest.length;
          node.data = Buffer.concat([node.data, rest.subarray(0, bytesWritten)]);
          const intoSector = node.data.length % sectorBytes;
          this.onWrite(intoSector > 0 && intoSector < borderBytes ? "sector-begun" : "elsewhere");
        });
        return { bytesWritten };
      },
      truncate: (length) =>
        act(0.3, () => {
          node.data = node.data.subarray(0, length);
          node.synced = Math.min(node.synced, length);
        }),
      datasync: async () => {
        this.#syncs += 1;
        await act(this.slowestSyncMs, () => {
          this.#syncs -= 1;
          this.#sync(node);
        });
      },
      sync: () => act(this.slowestSyncMs, () => this.#sync(node)),
      close: () => act(0.1, () => undefined),
    };
  }

  #sync(node: FileNode): void {
    node.synced = node.data.length;
  }

  /**
   * What is left after a power loss: what was synced, and of the rest a random prefix; or the whole length with sectors that
   * were never written, which read as zeros.
   */
  losePower(): void {
    this.#syncs = 0;
    const names = this.#random.chance(0.5) ? new Map(this.#names) : new Map(this.#syncedNames);
    for (const node of new Set(names.values())) {
      const loose = node.data.length - node.synced;
      const kept = node.synced + this.#random.below(loose + 1);
      if (this.#random.chance(0.5)) {
        const from = Math.min(node.data.length, Math.max(node.synced, Math.ceil(kept / sectorBytes) * sectorBytes));
        node.data = Buffer.concat([node.data.subarray(0, from), Buffer.alloc(node.data.length - from)]);
      } else node.data = node.data.subarray(0, kept);
      node.synced = node.data.length;
    }
    this.#names = names;
    this.#syncedNames = new Map(names);
  }

  /** A copy of everything written, as a snapshot of the machine takes it. */
  snapshot(): ReadonlyMap<string, Buffer> {
    return new Map([...this.#names].map(([path, { data }]) => [path, Buffer.from(data)]));
  }

  restore(snapshot: ReadonlyMap<string, Buffer>): void {
    this.#names = new Map(
      [...snapshot].map(([path, data]) => [path, { data: Buffer.from(data), synced: data.length }]),
    );
    this.#syncedNames = new Map(this.#names);
  }

  /** Flips one bit of a file. */
  damage(path: string): boolean {
    const node = this.#names.get(path);
    if (node === undefined || node.data.length === 0) return false;
    const at = this.#random.below(node.data.length);
    node.data = Buffer.from(node.data);
    node.data.writeUInt8(node.data.readUInt8(at) ^ (1 << this.#random.below(8)), at);
    return true;
  }
}
