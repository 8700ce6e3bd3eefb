// Finds out what this node's agents wait for when no hint tells it: new work, cancels to repeat, agents no longer
// trusted, what people set for them, attempts to give up on, rows that a database failover took back. Every look is bounded and only about agents with a session here.
import type { Background } from "../../shared/background.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { AgentId, TaskId } from "../../shared/ids.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Service } from "../../shared/service.ts";
import type { ToldSlots } from "../store/agent-slots.ts";
import type { PendingCancel } from "../store/read-cancels.ts";
import type { Distrusted, SessionCredential } from "../store/read-distrusted.ts";
import type { ClusterStore } from "../store/store.ts";
import { VerdictPause } from "./verdict-pause.ts";

export interface WakeDeps {
  readonly store: ClusterStore;
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
  readonly sessions: { agents(): AgentId[]; credentials(): SessionCredential[]; toldSlots(): ToldSlots[] };
}

export interface WakeActs {
  /** Agents that may have work, and those of them that may have an offer nobody answered. */
  readonly work: (agents: readonly AgentId[], unanswered: readonly AgentId[]) => void;
  readonly cancels: (cancels: readonly PendingCancel[]) => void;
  readonly distrusted: (agents: readonly Distrusted[]) => void;
  /** Agents that were told another number of slots than is set. */
  readonly settings: (agents: readonly ToldSlots[]) => void;
  readonly ended: (tasks: readonly TaskId[]) => void;
  /** Reads the rows of one agent again and asks it about them, if it has a session here. */
  readonly lookAgain: (agent: AgentId) => Promise<void>;
  /** Writes down again which agents have a session here. */
  readonly settlePresence: () => Promise<void>;
}

/** Milliseconds between looks. */
export const wakePeriods = {
  busyFeed: 1_000,
  idleFeed: 1_000,
  cancels: 2_000,
  trust: 5_000,
  fullSweep: 60_000,
  giveUp: 5_000,
} as const;

/** Queue numbers are drawn before their row is visible: this many below the last seen are looked at again. */
const overlap = 1_000;

/** Agents looked at again at once after a failover: all of them together would be the database's first load. */
const rereadAtOnce = 16;

export class Wake implements Service {
  readonly #deps: WakeDeps;
  readonly #acts: WakeActs;
  /** Looks under way; `again` when one was asked for meanwhile: what it is about may have come after the read. */
  readonly #running = new Map<string, "once" | "again">();
  readonly #verdicts: VerdictPause;
  #timers: Timer[] = [];
  #lastQueueNo = 0;
  #feedDueMs = 0;
  /** Agents with a session from before the last failover, whose rows were not read since. */
  readonly #stale = new Set<AgentId>();

  constructor(deps: WakeDeps, acts: WakeActs) {
    this.#deps = deps;
    this.#acts = acts;
    this.#verdicts = new VerdictPause(deps);
  }

  start(): Promise<void> {
    const { clock } = this.#deps;
    const every = (periodMs: number, act: () => void): void => void this.#timers.push(clock.every(periodMs, act));
    every(wakePeriods.busyFeed, () => {
      if (clock.monotonicMs() >= this.#feedDueMs) this.feed();
      if (this.#stale.size > 0) this.#look("rows after a failover", () => this.#reread());
    });
    every(wakePeriods.cancels, () => this.cancels());
    every(wakePeriods.trust, () => this.trust());
    every(wakePeriods.fullSweep, () => this.known(this.#deps.sessions.agents()));
    every(wakePeriods.fullSweep, () => this.settings([]));
    every(wakePeriods.giveUp, () => this.#look("giving up", () => this.#giveUp()));
    every(wakePeriods.fullSweep, () => this.#look("presence", () => this.#acts.settlePresence()));
    return Promise.resolve();
  }

  stop(): Promise<void> {
    for (const timer of this.#timers) timer.cancel();
    this.#timers = [];
    return Promise.resolve();
  }

  /** New queued rows since the last look, and offers nobody answered. */
  feed(): void {
    this.#look("work feed", async () => {
      const { agents, unanswered, last } = await this.#deps.store.workFeed(Math.max(0, this.#lastQueueNo - overlap));
      const isBusy = last > this.#lastQueueNo || agents.length > 0;
      this.#lastQueueNo = last;
      this.#feedDueMs = this.#deps.clock.monotonicMs() + (isBusy ? 0 : wakePeriods.idleFeed);
      this.#acts.work(agents, unanswered);
    });
  }

  /**
   * Another database serves, which may lack the last commits of the one before. An attempt whose acknowledged result it
   * lacks stands open, and sessions that live on bring no greeting to find it.
   */
  failedOver(): void {
    for (const agent of this.#deps.sessions.agents()) this.#stale.add(agent);
  }

  /** An agent whose look fails stays stale for the next one. */
  async #reread(): Promise<void> {
    while (this.#stale.size > 0) {
      await Promise.all(
        [...this.#stale].slice(0, rereadAtOnce).map(async (agent) => {
          await this.#acts.lookAgain(agent);
          this.#stale.delete(agent);
        }),
      );
    }
  }

  /** Whether these agents have work, by one indexed read. */
  known(agents: readonly AgentId[]): void {
    if (agents.length === 0) return;
    this.#look(`known work ${agents.length === 1 ? agents[0] : "of all"}`, async () => {
      const found = await this.#deps.store.knownWork(agents);
      this.#acts.work(found, found);
    });
  }

  cancels(): void {
    const agents = this.#deps.sessions.agents();
    if (agents.length > 0)
      this.#look("cancels", async () => this.#acts.cancels(await this.#deps.store.cancels(agents)));
  }

  trust(): void {
    const sessions = this.#deps.sessions.credentials();
    if (sessions.length > 0)
      this.#look("trust", async () => this.#acts.distrusted(await this.#deps.store.distrusted(sessions)));
  }

  /** Without agents, all. */
  settings(agents: readonly AgentId[]): void {
    this.#look(`settings ${agents.length === 0 ? "of all" : agents.join()}`, async () => {
      const told = this.#deps.sessions.toldSlots();
      const asked = agents.length === 0 ? told : told.filter(({ agent }) => agents.includes(agent));
      if (asked.length > 0) this.#acts.settings(await this.#deps.store.settings(asked));
    });
  }

  /** No verdict while the database's clock and ours disagree on how much time has passed (DESIGN promise 9). */
  async #giveUp(): Promise<void> {
    const databaseMs = await this.#deps.store.clockMs();
    if (this.#verdicts.judge({ databaseMs, monotonicMs: this.#deps.clock.monotonicMs() }) === "allowed") {
      this.#acts.ended(await this.#deps.store.sweep());
    }
  }

  /** One look of a kind at a time, and one more when it was asked for meanwhile; one that fails is repeated by its timer. */
  #look(name: string, act: () => Promise<void>): void {
    if (this.#running.has(name)) {
      this.#running.set(name, "again");
      return;
    }
    this.#running.set(name, "once");
    this.#deps.background.run(name, async () => {
      try {
        do {
          this.#running.set(name, "once");
          await act();
        } while (this.#running.get(name) === "again");
      } catch (cause) {
        if (AppError.from(cause).code !== "database.unavailable") throw cause;
        this.#verdicts.wasAway(this.#deps.clock.monotonicMs());
        this.#deps.logger.debug({ err: cause }, `${name}: the database is away`);
      } finally {
        this.#running.delete(name);
      }
    });
  }
}
