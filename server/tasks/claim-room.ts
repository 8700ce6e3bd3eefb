// How much this node may still take: its own load counted in memory, what others published with their heartbeats, what
// people have set. Knows no agents and no sessions; the rule is balance.ts's.
import type { Clock } from "../../shared/clock.ts";
import { mayOfferAtOnce, picks, roomOf, type NodeLoad } from "./balance.ts";

/** The own load is a sum over all sessions: counted anew this often, and in between what was taken is added. */
const freshMs = 100;

export interface ClaimRoomDeps {
  readonly clock: Clock;
  /** Unanswered offers and homes here. */
  readonly load: () => number;
}

export interface ClusterLoad {
  readonly taskCap: number;
  readonly others: readonly NodeLoad[];
}

/** A node that has not heard of the cluster yet takes up to this much, like the default of the column. */
export const defaultTaskCap = 1_000;

export class ClaimRoom {
  readonly #deps: ClaimRoomDeps;
  #cluster: ClusterLoad = { taskCap: defaultTaskCap, others: [] };
  #own = { active: 0, countedMs: -Infinity };

  constructor(deps: ClaimRoomDeps) {
    this.#deps = deps;
  }

  learn(cluster: ClusterLoad): void {
    this.#cluster = cluster;
  }

  /** So many were offered since the load was counted. */
  took(count: number): void {
    this.#own = { ...this.#own, active: this.#own.active + count };
  }

  /** Whether the balance has a say: alone, a node is bound by its cap only. */
  get isShared(): boolean {
    return this.#cluster.others.length > 0;
  }

  /** By the balance, when so many wait. */
  picks(pending: number): number {
    return picks({ own: this.#load(), others: this.#cluster.others, pending });
  }

  /** By the cap alone. */
  room(): number {
    return roomOf(this.#load());
  }

  mayOfferAtOnce(): boolean {
    return mayOfferAtOnce({ own: this.#load(), others: this.#cluster.others, pending: 0 });
  }

  #load(): NodeLoad {
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs - this.#own.countedMs >= freshMs) this.#own = { active: this.#deps.load(), countedMs: nowMs };
    return { active: this.#own.active, cap: this.#cluster.taskCap, draining: false };
  }
}
