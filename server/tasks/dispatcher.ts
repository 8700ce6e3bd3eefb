// The claim loop of one node: knows which agents with a session here may have work, asks for as much as their credit
// allows, one claim under way at a time, and hands what was claimed to the sessions. Never looks at other agents' backlog.
import type { Background } from "../../shared/background.ts";
import type { Clock } from "../../shared/clock.ts";
import type { AgentId, BootId, JournalId, NodeId } from "../../shared/ids.ts";
import type { Logger } from "../../shared/logger.ts";
import { lanes, type Lane } from "../../shared/task.ts";
import type { ClaimCredit, ClaimedAttempt } from "../store/claim-attempts.ts";
import type { CourierStore } from "../store/store.ts";

/** What the loop needs of a session. */
export interface OfferTarget {
  readonly agent: AgentId;
  readonly identity: { readonly bootId: BootId; readonly journalId: JournalId } | undefined;
  claimable(lane: Lane): number;
  offer(attempts: readonly ClaimedAttempt[]): void;
}

export interface Reservation {
  readonly bootId: BootId;
  readonly journalId: JournalId;
}

export interface DispatcherDeps {
  readonly store: Pick<CourierStore, "claim" | "release">;
  readonly sessions: { get(agent: AgentId): OfferTarget | undefined };
  readonly background: Background;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface DispatcherOptions {
  readonly node: NodeId;
  /** Attempts of one claim. Default 500. */
  readonly largestClaim?: number;
}

const retryPauseMs = 1_000;

export class Dispatcher {
  readonly #deps: DispatcherDeps;
  readonly #options: Required<DispatcherOptions>;
  /** Lanes of agents that may have work; the stamp tells a mark made during a claim from one before it. */
  readonly #maybe: Readonly<Record<Lane, Map<AgentId, number>>> = { work: new Map(), system: new Map() };
  readonly #reserved: Readonly<Record<Lane, Map<AgentId, number>>> = { work: new Map(), system: new Map() };
  readonly #ending = new AbortController();
  /** Agents whose offered rows are looked at with the next claim. */
  readonly #again = new Set<AgentId>();
  #stamp = 0;
  #mode: "claiming" | "draining" = "claiming";
  #loop: "idle" | "running" | "again" = "idle";

  constructor(deps: DispatcherDeps, options: DispatcherOptions) {
    this.#deps = deps;
    this.#options = { largestClaim: 500, ...options };
  }

  /**
   * These agents may have queued work, and those in `unanswered` an offer to make again; agents without a session here
   * are ignored.
   */
  mayHaveWork(agents: Iterable<AgentId>, unanswered: Iterable<AgentId> = []): void {
    for (const agent of unanswered) if (this.#deps.sessions.get(agent) !== undefined) this.#again.add(agent);
    let marked = 0;
    for (const agent of agents) {
      if (this.#deps.sessions.get(agent) === undefined) continue;
      this.#stamp += 1;
      for (const lane of lanes) this.#maybe[lane].set(agent, this.#stamp);
      marked += 1;
    }
    if (marked > 0) this.#kick();
  }

  /** This agent's session has new credit. */
  hasCredit(agent: AgentId): void {
    if (lanes.some((lane) => this.#maybe[lane].has(agent))) this.#kick();
  }

  forget(agent: AgentId): void {
    for (const lane of lanes) this.#maybe[lane].delete(agent);
    this.#again.delete(agent);
  }

  drain(): void {
    this.#mode = "draining";
  }

  /** Claims nothing more; a claim under way is still handed on or released. */
  stop(): void {
    this.#mode = "draining";
    this.#ending.abort();
  }

  /** Sets one credit of the agent's session aside for a submission about to be stored; undefined when it must queue. */
  reserve(agent: AgentId, lane: Lane): Reservation | undefined {
    if (this.#mode === "draining" || this.#maybe[lane].has(agent)) return undefined;
    const session = this.#deps.sessions.get(agent);
    if (session?.identity === undefined) return undefined;
    const reserved = this.#reserved[lane].get(agent) ?? 0;
    if (session.claimable(lane) <= reserved) return undefined;
    this.#reserved[lane].set(agent, reserved + 1);
    const { bootId, journalId } = session.identity;
    return { bootId, journalId };
  }

  /** Ends a reservation: `stored` is the attempt when it was stored already offered. */
  settle(agent: AgentId, lane: Lane, stored: ClaimedAttempt | undefined): void {
    const left = (this.#reserved[lane].get(agent) ?? 1) - 1;
    if (left === 0) this.#reserved[lane].delete(agent);
    else this.#reserved[lane].set(agent, left);
    if (stored === undefined) this.mayHaveWork([agent]);
    else this.#deliver([stored]);
  }

  #kick(): void {
    if (this.#loop !== "idle") {
      this.#loop = "again";
      return;
    }
    this.#loop = "running";
    this.#deps.background.run("claim loop", async () => {
      try {
        do {
          this.#loop = "running";
          await this.#claim();
        } while (this.#wantsMore());
      } finally {
        this.#loop = "idle";
      }
    });
  }

  #wantsMore(): boolean {
    return this.#loop === "again" && this.#mode === "claiming";
  }

  async #claim(): Promise<void> {
    const credits = this.#mode === "claiming" ? this.#credits() : [];
    if (credits.length === 0) return;
    const stampBefore = this.#stamp;
    for (const { agent } of credits) this.#again.delete(agent);
    let claimed: ClaimedAttempt[];
    try {
      claimed = await this.#deps.store.claim({ node: this.#options.node, credits, most: this.#options.largestClaim });
    } catch (cause) {
      this.#deps.logger.warn({ err: cause }, "claim failed; it is tried again");
      await this.#deps.clock.sleep(retryPauseMs, this.#ending.signal).catch(() => undefined);
      for (const { agent, again } of credits) if (again === true) this.#again.add(agent);
      this.#loop = "again";
      return;
    }
    this.#deliver(claimed);
    const asked = credits.reduce((sum, { credit }) => sum + credit, 0);
    // A claim cut off at its limit says nothing about those it did not reach.
    if (claimed.length >= this.#options.largestClaim || (asked > this.#options.largestClaim && claimed.length > 0)) {
      this.#loop = "again";
    } else this.#clearExhausted(credits, claimed, stampBefore);
  }

  /** A lane that got less than it had credit for has nothing left, unless it was marked again meanwhile. */
  #clearExhausted(credits: readonly ClaimCredit[], claimed: readonly ClaimedAttempt[], stampBefore: number): void {
    const got = Map.groupBy(claimed, ({ agent, lane }) => `${agent}/${lane}`);
    for (const { agent, lane, credit } of credits) {
      const isEmpty = (got.get(`${agent}/${lane}`)?.length ?? 0) < credit;
      if (isEmpty && (this.#maybe[lane].get(agent) ?? Infinity) <= stampBefore) this.#maybe[lane].delete(agent);
    }
  }

  #credits(): ClaimCredit[] {
    const credits: ClaimCredit[] = [];
    for (const lane of lanes) {
      for (const agent of this.#maybe[lane].keys()) {
        const session = this.#deps.sessions.get(agent);
        if (session?.identity === undefined) continue;
        const { bootId, journalId } = session.identity;
        const credit = session.claimable(lane) - (this.#reserved[lane].get(agent) ?? 0);
        const again = this.#again.has(agent);
        if (credit > 0) credits.push({ agent, bootId, journalId, lane, credit, again });
      }
    }
    return credits;
  }

  #deliver(claimed: readonly ClaimedAttempt[]): void {
    const byAgent = Map.groupBy(claimed, (attempt) => attempt.agent);
    for (const [agent, attempts] of byAgent) {
      const session = this.#deps.sessions.get(agent);
      if (session === undefined)
        this.#deps.background.run("release offers", () => this.#deps.store.release(this.#options.node, attempts));
      else session.offer(attempts);
    }
  }
}
