// How much may wait: queued attempts per agent and in all (SECURITY 5). A submission is let in or refused as a whole.
// Asked once per batch of submissions, and batches of a node never overlap, so what one node lets in is counted exactly;
// the database is read only where memory is too old:
//   per agent  read at most once a second. Several nodes may let in side by side what each had room for within that
//              second, so an agent's queue stays below bound × nodes, and is below the bound whenever one node serves it;
//              what agents took meanwhile is seen a second late, which refuses too much, never too little.
//   in all     counted every 5 s, or every hundred times as long as the count took, so that it costs the database 1 % at
//              most; in between this node's own submissions and claims are added. The bound is passed by no more than
//              what the other nodes let in since the last count.
// An attempt to be offered at once does not wait and is not judged. If it was queued after all, for its agent had just
// restarted or the cluster is paused, the agent's next ones are judged like any other, until one is offered again: no more
// than one credit's worth gets past the bound.
import type { Background } from "../../shared/background.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { AgentId, AttemptId, SubmissionId } from "../../shared/ids.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Service } from "../../shared/service.ts";
import type { Sql } from "./connection.ts";
import { countQueued, countQueuedOf } from "./count-queued.ts";
import type { NewSubmission, QueueRefusal, QueueRoom } from "./submit-tasks.ts";

export interface QueueLimits {
  /** Queued attempts of one agent. Default 1,000. */
  readonly perAgent: number;
  /** Queued attempts in all. Default 1,000,000. */
  readonly total: number;
}

export const defaultQueueLimits: QueueLimits = { perAgent: 1_000, total: 1_000_000 };

export interface QueueBoundsDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
}

const freshMs = 1_000;
const countPeriod = { leastMs: 5_000, timesTaken: 100 } as const;
/** Agents remembered; at the bound all are forgotten and read again. */
const agentsRemembered = 50_000;

interface Known {
  queued: number;
  readonly untilMs: number;
}

export class QueueBounds implements Service, QueueRoom {
  readonly #deps: QueueBoundsDeps;
  readonly #limits: QueueLimits;
  readonly #known = new Map<AgentId, Known>();
  /** Room taken by submissions that are being stored. */
  readonly #admitted = new Map<SubmissionId, ReadonlyMap<AgentId, number>>();
  /** Agents of which an attempt was queued that should have been offered at once. */
  readonly #missed = new Set<AgentId>();
  #total = 0;
  /** What this node added and took since it began; the difference over a count belongs to what was counted. */
  #net = 0;
  #timer: Timer | undefined;
  #mode: "stopped" | "counting" = "stopped";

  constructor(deps: QueueBoundsDeps, limits: QueueLimits) {
    this.#deps = deps;
    this.#limits = limits;
  }

  async start(): Promise<void> {
    this.#mode = "counting";
    await this.#count();
  }

  stop(): Promise<void> {
    this.#mode = "stopped";
    this.#timer?.cancel();
    return Promise.resolve();
  }

  /** Queued attempts in all, as this node knows. */
  get total(): number {
    return this.#total;
  }

  async admit(batch: readonly NewSubmission[]): Promise<ReadonlyMap<SubmissionId, QueueRefusal>> {
    const wanted = batch.map((submission) => ({ id: submission.id, perAgent: this.#waitingOf(submission) }));
    await this.#learn([...new Set(wanted.flatMap(({ perAgent }) => [...perAgent.keys()]))]);
    const refused = new Map<SubmissionId, QueueRefusal>();
    for (const { id, perAgent } of wanted) {
      const refusal = this.#judge(perAgent);
      if (refusal === undefined) {
        this.#take(perAgent, 1);
        this.#admitted.set(id, perAgent);
      } else refused.set(id, refusal);
    }
    return refused;
  }

  settle(batch: readonly NewSubmission[], stored: ReadonlyMap<SubmissionId, readonly AttemptId[]>): void {
    for (const { id, tasks } of batch) {
      const offered = stored.get(id);
      const perAgent = this.#admitted.get(id) ?? new Map<AgentId, number>();
      this.#admitted.delete(id);
      if (offered === undefined) this.#take(perAgent, -1);
      else this.#compare(tasks, { perAgent, offered: new Set(offered) });
    }
  }

  /** Takes room for one more that will wait: a retry. One that is not stored after all is counted until the next read. */
  async admitOne(agent: AgentId): Promise<QueueRefusal | undefined> {
    await this.#learn([agent]);
    const one = new Map([[agent, 1]]);
    const refusal = this.#judge(one);
    if (refusal === undefined) this.#take(one, 1);
    return refusal;
  }

  /** So many attempts wait no longer: this node offered them. */
  claimed(count: number): void {
    this.#add(-count);
  }

  #judge(perAgent: ReadonlyMap<AgentId, number>): QueueRefusal | undefined {
    const most = this.#limits;
    let all = 0;
    for (const [agent, wanted] of perAgent) {
      const queued = this.#known.get(agent)?.queued ?? 0;
      if (queued + wanted > most.perAgent) return { bound: "agent", agent, queued, wanted, most: most.perAgent };
      all += wanted;
    }
    // What is offered at once waits nowhere: it is let in however much does.
    if (all === 0 || this.#total + all <= most.total) return undefined;
    return { bound: "total", agent: undefined, queued: this.#total, wanted: all, most: most.total };
  }

  #take(perAgent: ReadonlyMap<AgentId, number>, sign: 1 | -1): void {
    for (const [agent, count] of perAgent) {
      const known = this.#known.get(agent);
      if (known !== undefined) known.queued += sign * count;
      this.#add(sign * count);
    }
  }

  #add(count: number): void {
    this.#net += count;
    this.#total = Math.max(0, this.#total + count);
  }

  /** Makes what was counted of a submission what became of it, and learns whose offers can be relied on. */
  #compare(
    tasks: NewSubmission["tasks"],
    {
      perAgent,
      offered,
    }: { readonly perAgent: ReadonlyMap<AgentId, number>; readonly offered: ReadonlySet<AttemptId> },
  ): void {
    const queued = countPerAgent(tasks.filter(({ attempt }) => !offered.has(attempt)));
    for (const { agent, attempt, offer } of tasks) {
      if (offered.has(attempt)) this.#missed.delete(agent);
      else if (offer !== undefined && this.#missed.size < agentsRemembered) this.#missed.add(agent);
    }
    this.#take(perAgent, -1);
    this.#take(queued, 1);
  }

  /** How many of a submission's tasks would wait, per agent. */
  #waitingOf({ tasks }: NewSubmission): ReadonlyMap<AgentId, number> {
    return countPerAgent(tasks.filter(({ agent, offer }) => offer === undefined || this.#missed.has(agent)));
  }

  async #learn(agents: readonly AgentId[]): Promise<void> {
    const nowMs = this.#deps.clock.monotonicMs();
    const unknown = agents.filter((agent) => (this.#known.get(agent)?.untilMs ?? 0) <= nowMs);
    if (unknown.length === 0) return;
    const counted = await countQueuedOf(this.#deps.sql, { agents: unknown, most: this.#limits.perAgent });
    if (this.#known.size + unknown.length > agentsRemembered) {
      const kept = new Set(agents);
      for (const agent of this.#known.keys()) if (!kept.has(agent)) this.#known.delete(agent);
    }
    for (const agent of unknown) {
      this.#known.set(agent, { queued: counted.get(agent) ?? 0, untilMs: nowMs + freshMs });
    }
  }

  async #count(): Promise<void> {
    const { sql, clock, logger } = this.#deps;
    const startMs = clock.monotonicMs();
    const before = this.#net;
    try {
      const counted = await countQueued(sql, this.#limits.total);
      this.#total = Math.max(0, counted + this.#net - before);
    } catch (cause) {
      logger.debug({ err: cause }, "the queue was not counted; the last figure stands");
    }
    if (this.#mode === "stopped") return;
    const pauseMs = Math.max(countPeriod.leastMs, countPeriod.timesTaken * (clock.monotonicMs() - startMs));
    this.#timer = clock.after(pauseMs, () => this.#deps.background.run("count queued", () => this.#count()));
  }
}

function countPerAgent(tasks: NewSubmission["tasks"]): ReadonlyMap<AgentId, number> {
  const perAgent = new Map<AgentId, number>();
  for (const { agent } of tasks) perAgent.set(agent, (perAgent.get(agent) ?? 0) + 1);
  return perAgent;
}
