// The node's memory for log bytes received and not yet stored: 64 MiB, shared out as windows of 64 KiB to 1 MiB.
// A window is a promise of memory to one stream; the smallest one is always granted, so that no stream stands still.
import { initialWindowBytes, largestWindowBytes } from "../../shared/wire/fields.ts";

export class LogBudget {
  readonly #totalBytes: number;
  #heldBytes = 0;

  constructor(options: { readonly totalBytes?: number } = {}) {
    this.#totalBytes = options.totalBytes ?? 64 * 1024 * 1024;
  }

  take(bytes: number): void {
    this.#heldBytes += bytes;
  }

  give(bytes: number): void {
    this.#heldBytes -= bytes;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The window to grant now: a thirty-second of what is free, within its bounds. */
  windowBytes(): number {
    const freeBytes = Math.max(0, this.#totalBytes - this.#heldBytes);
    return Math.min(largestWindowBytes, Math.max(initialWindowBytes, Math.floor(freeBytes / 32)));
  }
}
