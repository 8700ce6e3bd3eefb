// What a node does for the database beside its tasks: partitions ahead, indexes beside the running cluster, and what is past
// its retention. Invariant: none of it is waited for by a task, and a stop ends it between two batches.
import type { Background } from "../shared/background.ts";
import type { Clock, Timer } from "../shared/clock.ts";
import type { Logger } from "../shared/logger.ts";
import type { Service } from "../shared/service.ts";
import type { Database } from "./store/connection.ts";
import { buildIndexes } from "./store/indexes.ts";
import { ensurePartitions } from "./store/partitions.ts";
import { prune } from "./store/retention.ts";

export interface HousekeepingDeps {
  readonly database: Database;
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
}

const periodMs = 3_600_000;

export class Housekeeping implements Service {
  readonly #deps: HousekeepingDeps;
  readonly #ending = new AbortController();
  #timer: Timer | undefined;

  constructor(deps: HousekeepingDeps) {
    this.#deps = deps;
  }

  start(): Promise<void> {
    const { database, clock, background, logger } = this.#deps;
    const { signal } = this.#ending;
    background.run("build indexes", async () => {
      const built = await buildIndexes(database, signal);
      if (built.length > 0) logger.info({ indexes: built }, "indexes built beside the running cluster");
    });
    this.#timer = clock.every(periodMs, () =>
      background.run("housekeeping", async () => {
        await ensurePartitions(database, clock);
        await prune(database, clock, signal);
      }),
    );
    return Promise.resolve();
  }

  stop(): Promise<void> {
    this.#timer?.cancel();
    this.#ending.abort();
    return Promise.resolve();
  }
}
