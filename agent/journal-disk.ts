// The few file operations the journal needs, so that the simulator can crash, fill and roll back the disk underneath it.
// This is the real disk; what is written when and what counts as durable is journal.ts's.
import { open, readFile, rename, rm } from "node:fs/promises";
import { errnoOf } from "../shared/errors.ts";

export interface JournalFile {
  /** May write less than it was given, as write(2) does. */
  write(bytes: Uint8Array, from: number): Promise<{ readonly bytesWritten: number }>;
  truncate(length: number): Promise<void>;
  /** Bytes only. */
  datasync(): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface JournalDisk {
  /** The whole file; undefined when there is none. */
  read(path: string): Promise<Buffer | undefined>;
  /** For appending; `fresh` empties it first. Made when it is not there. */
  open(path: string, mode: "append" | "fresh"): Promise<JournalFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** A new or renamed file is there after power loss only once its directory is synced. */
  syncDirectory(path: string): Promise<void>;
}

const ownerOnly = 0o600;

export const nodeJournalDisk: JournalDisk = {
  read: (path) =>
    readFile(path).catch((cause: unknown) => {
      if (errnoOf(cause) === "ENOENT") return undefined;
      throw cause;
    }),
  async open(path, mode) {
    const handle = await open(path, "a", ownerOnly);
    if (mode === "fresh") await handle.truncate(0);
    return {
      write: (bytes, from) => handle.write(bytes, from),
      truncate: (length) => handle.truncate(length),
      datasync: () => handle.datasync(),
      sync: () => handle.sync(),
      close: () => handle.close(),
    };
  },
  rename,
  remove: (path) => rm(path, { force: true }),
  syncDirectory,
};

/** A new or renamed file is there after power loss only once its directory is synced. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
