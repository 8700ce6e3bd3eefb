// The claim loop of one node: knows which agents with a session here may have work, asks for as much as their credit
// and the node's room allow, one claim under way at a time, and hands what was claimed to the sessions. Never looks at other
// agents' backlog. Where the balance says that others should take it, it waits a second and takes it then, cap permitting.
import type { Background } from "../../shared/background.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { AgentId, BootId, JournalId, NodeId } from "../../shared/ids.ts";
import type { Logger } from "../../shared/logger.ts";
import { lanes, type Lane } from "../../shared/task.ts";
import { claimBytes, specBytes, type ClaimCredit, type ClaimedAttempt } from "../store/claim-attempts.ts";
import type { ClusterStore, CourierStore } from "../store/store.ts";
import type { ClaimRoom } from "./claim-room.ts";

/** What the loop needs of a session. */
export interface OfferTarget {
  readonly agent: AgentId;
  readonly identity: { readonly bootId: BootId; readonly journalId: JournalId } | undefined;
  /** `bytesAside`: of offers that are on their way to it. */
  claimable(lane: Lane, bytesAside: number): number;
  offer(attempts: readonly ClaimedAttempt[]): void;
}

export interface Reservation {
  readonly bootId: BootId;
  readonly journalId: JournalId;
}

export interface DispatcherDeps {
  readonly store: Pick<CourierStore, "claim" | "release"> & Pick<ClusterStore, "pending">;
  readonly room: Pick<ClaimRoom, "isShared" | "picks" | "room" | "took" | "mayOfferAtOnce">;
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
/** What a node leaves to less loaded ones for this long, it takes itself: others may not reach the agent. */
const yieldMs = 1_000;

export type ClaimMode = "claiming" | "paused" | "draining" | "stopped";

interface Share {
  readonly credits: readonly ClaimCredit[];
  /** Asked when its turn comes: the share before it may have taken the room. */
  readonly most: () => number;
}

/** What a claim ended at: the most of one claim, the node's room, or the last of the work there was credit for. */
type ClaimEnd = "size" | "room" | "work";

const creditOf = (credits: readonly ClaimCredit[]): number => credits.reduce((sum, { credit }) => sum + credit, 0);

export class Dispatcher {
  readonly #deps: DispatcherDeps;
  readonly #options: Required<DispatcherOptions>;
  /** Lanes of agents that may have work; the stamp tells a mark made during a claim from one before it. */
  readonly #maybe: Readonly<Record<Lane, Map<AgentId, number>>> = { work: new Map(), system: new Map() };
  readonly #reserved: Readonly<Record<Lane, Map<AgentId, number>>> = { work: new Map(), system: new Map() };
  /** What reservations of both lanes will take, by agent. */
  readonly #reservedBytes = new Map<AgentId, number>();
  readonly #ending = new AbortController();
  /** Agents whose offered rows are looked at with the next claim. */
  readonly #again = new Set<AgentId>();
  #stamp = 0;
  /** Since when an agent with credit was left to other nodes, or waits for room here. */
  readonly #left = new Map<AgentId, number>();
  #mode: ClaimMode = "claiming";
  #loop: "idle" | "running" | "again" = "idle";
  #leftTimer: Timer | undefined;
  /** Submissions between {@link reserve} and {@link settle}. */
  #storing = 0;
  readonly #quiet = new Set<() => void>();

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
    this.#left.delete(agent);
  }

  get mode(): ClaimMode {
    return this.#mode;
  }

  /** Stopped is for good: a claim under way is still handed on or released. */
  enter(mode: ClaimMode): void {
    if (this.#mode === "stopped" || this.#mode === mode) return;
    this.#mode = mode;
    if (mode === "stopped") {
      this.#ending.abort();
      this.#leftTimer?.cancel();
    } else if (mode === "claiming") this.#kick();
  }

  /** Resolves when no claim and no offer of a submission that began before this call is under way. */
  async quiet(): Promise<void> {
    if (this.#loop !== "idle" || this.#storing > 0) await new Promise<void>((resolve) => void this.#quiet.add(resolve));
  }

  #tellQuiet(): void {
    if (this.#loop !== "idle" || this.#storing > 0) return;
    for (const resolve of this.#quiet) resolve();
    this.#quiet.clear();
  }

  /**
   * Sets one credit of the agent's session, and the offer's bytes, aside for a submission about to be stored; undefined when it
   * must queue. As with claims, the one that reaches the bound on bytes is the last one.
   */
  reserve(agent: AgentId, lane: Lane, bytes: number): Reservation | undefined {
    if (this.#mode !== "claiming" || this.#maybe[lane].has(agent)) return undefined;
    const session = this.#deps.sessions.get(agent);
    if (session?.identity === undefined || this.#creditLeft(session, lane) <= 0) return undefined;
    if (!this.#deps.room.mayOfferAtOnce()) return undefined;
    this.#deps.room.took(1);
    this.#storing += 1;
    change(this.#reserved[lane], agent, 1);
    change(this.#reservedBytes, agent, bytes);
    const { bootId, journalId } = session.identity;
    return { bootId, journalId };
  }

  /** Ends a reservation, with the bytes it was made for: `stored` is the attempt when it was stored already offered. */
  settle(agent: AgentId, lane: Lane, bytes: number, stored: ClaimedAttempt | undefined): void {
    change(this.#reserved[lane], agent, -1);
    change(this.#reservedBytes, agent, -bytes);
    this.#storing -= 1;
    if (stored === undefined) {
      this.#deps.room.took(-1);
      this.mayHaveWork([agent]);
    } else {
      this.#deliver([stored]);
      // What was set aside and not used, for the offer was unfit, is free for what was queued meanwhile.
      this.hasCredit(agent);
    }
    this.#tellQuiet();
  }

  /** What can be claimed for the session on a lane beyond what is set aside. */
  #creditLeft(session: OfferTarget, lane: Lane): number {
    const { agent } = session;
    const bytesAside = this.#reservedBytes.get(agent) ?? 0;
    return session.claimable(lane, bytesAside) - (this.#reserved[lane].get(agent) ?? 0);
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
        this.#tellQuiet();
      }
    });
  }

  #wantsMore(): boolean {
    return this.#loop === "again" && this.#mode === "claiming";
  }

  async #claim(): Promise<void> {
    const credits = this.#mode === "claiming" ? this.#credits() : [];
    if (credits.length === 0) return;
    for (const { agent } of credits) this.#again.delete(agent);
    try {
      for (const share of await this.#shares(credits)) await this.#claimFor(share);
    } catch (cause) {
      this.#deps.logger.warn({ err: cause }, "claim failed; it is tried again");
      await this.#deps.clock.sleep(retryPauseMs, this.#ending.signal).catch(() => undefined);
      this.#lookAgain(credits);
      this.#loop = "again";
    }
  }

  /** Who is claimed for, and how much: what the balance gives, and by the cap alone what has waited long enough. */
  async #shares(credits: readonly ClaimCredit[]): Promise<readonly Share[]> {
    const { room, store } = this.#deps;
    if (!room.isShared) return [{ credits, most: () => room.room() }];
    if (room.picks(0) >= creditOf(credits)) return [{ credits, most: () => room.picks(0) }];
    const stampBefore = this.#stamp;
    const pending = await store.pending([...new Set(credits.map(({ agent }) => agent))]);
    const nowMs = this.#deps.clock.monotonicMs();
    const isDue = ({ agent, again }: ClaimCredit): boolean =>
      again === true || nowMs - (this.#left.get(agent) ?? Infinity) >= yieldMs;
    const due = credits.filter(isDue);
    const others = credits.filter((credit) => !isDue(credit));
    if (pending === 0) this.#clearExhausted(others, [], stampBefore);
    return [
      { credits: due, most: () => room.room() },
      { credits: pending === 0 ? [] : others, most: () => room.picks(pending) },
    ];
  }

  async #claimFor({ credits, most: mayTake }: Share): Promise<void> {
    const { store, room } = this.#deps;
    const { node, largestClaim } = this.#options;
    if (credits.length === 0) return;
    const allowed = mayTake();
    if (allowed <= 0) {
      this.#leave(credits);
      return;
    }
    const stampBefore = this.#stamp;
    const most = Math.min(allowed, largestClaim);
    const claimed = await store.claim({ node, credits, most });
    room.took(claimed.length);
    for (const { agent } of claimed) this.#left.delete(agent);
    this.#deliver(claimed);
    const end = this.#endOf(credits, claimed, most);
    // A lane that was cut off at its bytes may have credit left, for what was claimed may all be unfit: looked at at once.
    if (end === "size" || specBytes(claimed) >= claimBytes.lane) this.#loop = "again";
    switch (end) {
      case "size":
        this.#lookAgain(credits);
        return;
      case "room":
        this.#leave(credits);
        return;
      case "work":
        this.#clearExhausted(credits, claimed, stampBefore);
    }
  }

  #endOf(credits: readonly ClaimCredit[], claimed: readonly ClaimedAttempt[], most: number): ClaimEnd {
    if (specBytes(claimed) >= claimBytes.all) return "size";
    const { largestClaim } = this.#options;
    // A claim cut off at its limit says nothing about those it did not reach; other nodes may hold what it picked.
    const isCut = creditOf(credits) > most && (claimed.length > 0 || (this.#deps.room.isShared && most < largestClaim));
    if (!isCut) return "work";
    return most === largestClaim ? "size" : "room";
  }

  /** These may have work that others should take, or that there is no room for: looked at again in a second. */
  #leave(credits: readonly ClaimCredit[]): void {
    const nowMs = this.#deps.clock.monotonicMs();
    for (const { agent, again } of credits) {
      if (!this.#left.has(agent)) this.#left.set(agent, nowMs);
      if (again === true) this.#again.add(agent);
    }
    this.#leftTimer ??= this.#deps.clock.after(yieldMs, () => {
      this.#leftTimer = undefined;
      this.#kick();
    });
  }

  /** Of offers to be made again there may be more than there was credit for, and the feed tells of each for a while only. */
  #lookAgain(credits: readonly ClaimCredit[]): void {
    for (const { agent, again } of credits) if (again === true) this.#again.add(agent);
  }

  /** A lane that got less than it had credit for has nothing left, unless it was marked again meanwhile. */
  #clearExhausted(credits: readonly ClaimCredit[], claimed: readonly ClaimedAttempt[], stampBefore: number): void {
    const got = Map.groupBy(claimed, ({ agent, lane }) => `${agent}/${lane}`);
    for (const one of credits) {
      const { agent, lane, credit } = one;
      const own = got.get(`${agent}/${lane}`) ?? [];
      const isEmpty = own.length < credit && specBytes(own) < claimBytes.lane;
      if (!isEmpty) this.#lookAgain([one]);
      if (!isEmpty || (this.#maybe[lane].get(agent) ?? Infinity) > stampBefore) continue;
      this.#maybe[lane].delete(agent);
      this.#left.delete(agent);
    }
  }

  #credits(): ClaimCredit[] {
    const credits: ClaimCredit[] = [];
    for (const lane of lanes) {
      for (const agent of this.#maybe[lane].keys()) {
        const session = this.#deps.sessions.get(agent);
        if (session?.identity === undefined) continue;
        const { bootId, journalId } = session.identity;
        const credit = this.#creditLeft(session, lane);
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

/** No entry means none. */
function change(amounts: Map<AgentId, number>, agent: AgentId, by: number): void {
  const amount = (amounts.get(agent) ?? 0) + by;
  if (amount === 0) amounts.delete(agent);
  else amounts.set(agent, amount);
}
