// Many async sources as one, in order of arrival. At most `most` run at once and each holds one item until it is taken, so
// a slow reader slows its sources and memory stays bounded.

export interface MergeOptions {
  readonly most: number;
}

export type Source<Item> = (signal: AbortSignal) => AsyncIterable<Item>;

interface Waiting<Item> {
  readonly item: Item;
  readonly taken: () => void;
}

/** The first error of a source ends all. Leaving the loop early stops every source and waits for it. */
export async function* merge<Item>(sources: readonly Source<Item>[], options: MergeOptions): AsyncGenerator<Item> {
  const stop = new AbortController();
  const ready: Waiting<Item>[] = [];
  const failures: unknown[] = [];
  const queue = sources.values();
  let running = 0;
  let wake = (): void => undefined;

  const run = async (): Promise<void> => {
    running += 1;
    try {
      for (const source of queue) {
        for await (const item of source(stop.signal)) {
          if (stop.signal.aborted) return;
          await new Promise<void>((taken) => {
            ready.push({ item, taken });
            wake();
          });
        }
        if (stop.signal.aborted) return;
      }
    } catch (cause) {
      failures.push(cause);
    } finally {
      running -= 1;
      wake();
    }
  };

  const runners = Array.from({ length: Math.min(options.most, sources.length) }, () => run());
  try {
    for (;;) {
      const next = ready.shift();
      if (next !== undefined) {
        next.taken();
        yield next.item;
      } else if (failures.length > 0) {
        throw failures[0];
      } else if (running === 0) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    stop.abort();
    for (const waiting of ready) waiting.taken();
    await Promise.all(runners);
  }
}
