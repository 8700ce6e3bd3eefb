// Group commit: items of one verb gather while the previous batch is with the database; the next batch leaves when it
// returned, never on a timer. A batch that fails for one item's sake is retried in halves until that item is alone.
import { AppError } from "../../shared/errors.ts";

export interface GroupCommitDeps<Item, Outcome> {
  /** One transaction for all items; answers one outcome per item, in order. */
  readonly commit: (items: readonly Item[]) => Promise<readonly Outcome[]>;
  /** Two items with the same key never share a batch; the later one waits for the next. */
  readonly keyOf: (item: Item) => string;
  /** Bytes of an item, where they differ much. */
  readonly bytesOf?: (item: Item) => number;
}

export interface GroupCommitOptions {
  readonly largestBatch: number;
  /** Bytes of a batch; an item that has more goes alone. Default: any. */
  readonly largestBytes?: number;
  /** Items that may wait; beyond it `rate.limited` is thrown. */
  readonly capacity: number;
}

interface Waiting<Item, Outcome> {
  readonly item: Item;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: AppError) => void;
}

export class GroupCommit<Item, Outcome> {
  readonly #deps: GroupCommitDeps<Item, Outcome>;
  readonly #options: GroupCommitOptions;
  #waiting: Waiting<Item, Outcome>[] = [];
  #running: Promise<void> | undefined;

  constructor(deps: GroupCommitDeps<Item, Outcome>, options: GroupCommitOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Resolves with this item's outcome once its batch has committed. */
  add(item: Item): Promise<Outcome> {
    if (this.#waiting.length >= this.#options.capacity) {
      return Promise.reject(
        new AppError("rate.limited", `${this.#options.capacity} writes already wait for the database`),
      );
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  async settle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #run(): Promise<void> {
    // One turn lets everything that arrived with the same socket read join the first batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#commit(this.#nextBatch());
    this.#running = undefined;
  }

  #nextBatch(): Waiting<Item, Outcome>[] {
    const batch: Waiting<Item, Outcome>[] = [];
    const left: Waiting<Item, Outcome>[] = [];
    const keys = new Set<string>();
    const { largestBatch, largestBytes = Infinity } = this.#options;
    let bytes = 0;
    for (const waiting of this.#waiting) {
      const key = this.#deps.keyOf(waiting.item);
      const itsBytes = this.#deps.bytesOf?.(waiting.item) ?? 0;
      const isFull = batch.length >= largestBatch || (batch.length > 0 && bytes + itsBytes > largestBytes);
      if (!isFull && !keys.has(key)) {
        batch.push(waiting);
        bytes += itsBytes;
      } else left.push(waiting);
      // Later items of a key stay behind earlier ones, in this batch or the next.
      keys.add(key);
    }
    this.#waiting = left;
    return batch;
  }

  async #commit(batch: readonly Waiting<Item, Outcome>[], tries = 0): Promise<void> {
    try {
      const found = await this.#deps.commit(batch.map(({ item }) => item));
      for (const [index, waiting] of batch.entries()) {
        const outcome = found[index];
        if (outcome === undefined)
          waiting.reject(new AppError("internal", "a batch answered fewer outcomes than items"));
        else waiting.resolve(outcome);
      }
    } catch (cause) {
      const error = AppError.from(cause);
      if (error.code === "database.conflict" && tries < 3) await this.#commit(batch, tries + 1);
      else if (error.code === "database.unavailable" || batch.length === 1)
        for (const waiting of batch) waiting.reject(error);
      else {
        const middle = Math.ceil(batch.length / 2);
        await this.#commit(batch.slice(0, middle), tries);
        await this.#commit(batch.slice(middle), tries);
      }
    }
  }
}
