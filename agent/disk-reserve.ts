// A file that only takes up room: given back when the disk is full, so that results still reach the journal.
// Invariant: it is refilled only at a start of the agent, when there is room for it and as much again.
import { rm, stat, truncate, writeFile } from "node:fs/promises";
import { open } from "node:fs/promises";
import { freeBytes } from "./host.ts";

export const reserveBytes = 32 * 1024 * 1024;

export class DiskReserve {
  readonly #path: string;
  readonly #bytes: number;

  constructor(options: { readonly path: string; readonly bytes?: number }) {
    this.#path = options.path;
    this.#bytes = options.bytes ?? reserveBytes;
  }

  /** Written out, for a sparse file reserves nothing. */
  async fill(folder: string): Promise<void> {
    const size = await stat(this.#path).then(
      ({ size: bytes }) => bytes,
      () => 0,
    );
    if (size >= this.#bytes || (await freeBytes(folder)) < 2 * this.#bytes) return;
    await writeFile(this.#path, "", { mode: 0o600 });
    const block = Buffer.alloc(1024 * 1024);
    const handle = await open(this.#path, "r+");
    try {
      for (let at = 0; at < this.#bytes; at += block.length) await handle.write(block, 0, block.length, at);
      await handle.datasync();
    } finally {
      await handle.close();
    }
  }

  async free(): Promise<void> {
    await truncate(this.#path, 0).catch(() => undefined);
    await rm(this.#path, { force: true });
  }
}
