// Remembers what was looked up for a short time, and lets those who ask meanwhile share one look. Only for answers that
// may be a few seconds old; a failed look is not remembered.
import type { Clock } from "./clock.ts";

export interface RecentOptions {
  readonly freshMs: number;
  /** Entries kept; at the bound everything is forgotten. */
  readonly capacity: number;
}

interface Entry<Value> {
  readonly value: Promise<Value>;
  readonly untilMs: number;
}

export class Recent<Value> {
  readonly #deps: { readonly clock: Clock; readonly load: (key: string) => Promise<Value> };
  readonly #options: RecentOptions;
  readonly #entries = new Map<string, Entry<Value>>();

  constructor(deps: { readonly clock: Clock; readonly load: (key: string) => Promise<Value> }, options: RecentOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  get(key: string): Promise<Value> {
    const nowMs = this.#deps.clock.monotonicMs();
    const known = this.#entries.get(key);
    if (known !== undefined && known.untilMs > nowMs) return known.value;
    if (this.#entries.size >= this.#options.capacity) this.#entries.clear();
    const entry = { value: this.#deps.load(key), untilMs: nowMs + this.#options.freshMs };
    this.#entries.set(key, entry);
    entry.value.catch(() => {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
    });
    return entry.value;
  }

  forget(): void {
    this.#entries.clear();
  }
}
