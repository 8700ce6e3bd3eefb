// Remembers why this node refused agents it knows, so that every node can say why one is missing here. Gathered and written
// once a second; the same reason for the same agent once a minute, because a refused agent dials again and again.
import type { Background } from "../shared/background.ts";
import type { Clock, Timer } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import type { AgentId } from "../shared/ids.ts";
import type { Logger } from "../shared/logger.ts";
import type { Service } from "../shared/service.ts";
import type { RefusalNote } from "./store/write-refusals.ts";

export interface RefusalsDeps {
  readonly write: (notes: readonly RefusalNote[]) => Promise<void>;
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
}

const writeMs = 1_000;
const againMs = 60_000;
/** Agents remembered; beyond it the oldest are forgotten, and merely written once more. */
const capacity = 10_000;

export class Refusals implements Service {
  readonly #deps: RefusalsDeps;
  readonly #told = new Map<AgentId, { readonly reason: string; readonly atMs: number }>();
  readonly #waiting = new Map<AgentId, string>();
  #timer: Timer | undefined;

  constructor(deps: RefusalsDeps) {
    this.#deps = deps;
  }

  start(): Promise<void> {
    this.#timer = this.#deps.clock.every(writeMs, () => this.#write());
    return Promise.resolve();
  }

  stop(): Promise<void> {
    this.#timer?.cancel();
    return Promise.resolve();
  }

  note(agent: AgentId, reason: string): void {
    const nowMs = this.#deps.clock.monotonicMs();
    const told = this.#told.get(agent);
    if (told?.reason === reason && nowMs - told.atMs < againMs) return;
    this.#told.delete(agent);
    this.#told.set(agent, { reason, atMs: nowMs });
    this.#waiting.set(agent, reason);
    const [oldest] = this.#told.keys();
    if (this.#told.size > capacity && oldest !== undefined) {
      this.#told.delete(oldest);
      this.#waiting.delete(oldest);
    }
  }

  #write(): void {
    if (this.#waiting.size === 0) return;
    const notes = [...this.#waiting].map(([agent, reason]) => ({ agent, reason }));
    this.#waiting.clear();
    this.#deps.background.run("refusals", async () => {
      try {
        await this.#deps.write(notes);
      } catch (cause) {
        if (!AppError.from(cause).retryable) throw cause;
        // The agents dial again, and are noted again then.
        for (const { agent } of notes) this.#told.delete(agent);
        this.#deps.logger.debug({ err: cause }, "refusals not written: the database is away");
      }
    });
  }
}
