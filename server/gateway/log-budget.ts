// The node's memory for log bytes received and not yet stored: 64 MiB. Windows of 64 KiB to 1 MiB shrink as it fills; the
// smallest is always granted, so that no stream stands still, and the bound itself is kept by reading no further frames
// while it is full.
import { initialWindowBytes, largestWindowBytes } from "../../shared/wire/fields.ts";

export class LogBudget {
  readonly #totalBytes: number;
  readonly #waiting = new Set<{ goOn(): void }>();
  #heldBytes = 0;

  constructor(options: { readonly totalBytes?: number } = {}) {
    this.#totalBytes = options.totalBytes ?? 64 * 1024 * 1024;
  }

  take(bytes: number): void {
    this.#heldBytes += bytes;
  }

  give(bytes: number): void {
    this.#heldBytes -= bytes;
    if (this.isFull || this.#waiting.size === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const one of waiting) one.goOn();
  }

  /** Calls once, as soon as it is not full any more: whoever has nothing of it in hand would hear of nothing. */
  whenFree(waiting: { goOn(): void }): void {
    this.#waiting.add(waiting);
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Sessions stop reading while it is. */
  get isFull(): boolean {
    return this.#heldBytes >= this.#totalBytes;
  }

  /** The window to grant now: a thirty-second of what is free, within its bounds. */
  windowBytes(): number {
    const freeBytes = Math.max(0, this.#totalBytes - this.#heldBytes);
    return Math.min(largestWindowBytes, Math.max(initialWindowBytes, Math.floor(freeBytes / 32)));
  }
}
