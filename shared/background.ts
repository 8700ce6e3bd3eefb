// Tracks promises nobody awaits, so that none floats: failures are reported, and stop waits for all of them.

import { describeError } from "./errors.ts";
import type { Logger } from "./logger.ts";

export class Background {
  readonly #running = new Set<Promise<void>>();
  readonly #logger: Logger;

  constructor(deps: { readonly logger: Logger }) {
    this.#logger = deps.logger;
  }

  /** Runs `act` in the background; an error is logged under `name` and goes no further. */
  run(name: string, act: () => Promise<void>): void {
    const promise = act()
      .catch((cause: unknown) =>
        this.#logger.error({ err: cause, work: name }, `background work failed: ${describeError(cause)}`),
      )
      .finally(() => this.#running.delete(promise));
    this.#running.add(promise);
  }

  get size(): number {
    return this.#running.size;
  }

  /** Resolves when everything run so far, and whatever that started here, has ended. */
  async settle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
