// Pairs of concurrent events (RELIABILITY 3.9): the table of all, and how often each met in a run, told from what was
// executed, received, started and broken. What is not simulated says where else it is looked at.
import type { AbandonedTask } from "../../server/store/abandon-task.ts";
import type { ClaimInput, ClaimedAttempt } from "../../server/store/claim-attempts.ts";
import type { LogAppend } from "../../server/store/append-log.ts";
import type { Finish, FinishOutcome } from "../../server/store/finish-attempts.ts";
import type { Greeting, GreetOutcome } from "../../server/store/greet-agent.ts";
import type { Progress } from "../../server/store/progress-attempts.ts";
import type { Refusal } from "../../server/store/refuse-attempts.ts";
import type { RemovedAgent } from "../../server/store/remove-agent.ts";
import type { ResumeHome, ResumeOutcome } from "../../server/store/resume-attempts.ts";
import type { NewSubmission, SubmitOutcome } from "../../server/store/submit-tasks.ts";
import type { CancelledTask } from "../../server/store/cancel-tasks.ts";
import type { AgentId, AttemptId, BootId, NodeId, TaskId } from "../../shared/ids.ts";
import type { FromNode } from "../../shared/wire/from-node.ts";
import type { SimAgent } from "./agent.ts";
import type { Executed } from "./database-server.ts";
import type { AttemptRow } from "./model/rows.ts";
import type { Place } from "./network.ts";
import type { Simulation } from "./simulation.ts";

/** Simulated pairs, in the words of RELIABILITY 3.9. */
export const simulatedPairs = [
  "A and B offer the same attempt",
  "accept lost, re-offer",
  "accept lost, journal replaced",
  "refuse(later) by A, offer by B in flight",
  "refuse(never) by A, accept through B",
  "refuse(busy) and claim",
  "ready in flight against offer in flight",
  "greeting at C, accept through A",
  "greeting at C, offer from A in flight",
  "greetings at A, B, C together",
  "welcome lost after the boot pair was stored",
  "old process's hello after the new one's",
  "register/doctor while running",
  "two homes: old batch commits, then resume",
  "resume commits, then old batch",
  "resume messages reordered (A→B→A)",
  "log async, database crash",
  "log async, result sync, other connection",
  "result read while a chunk commits",
  "result through A and B",
  "result, server has more log",
  "result for lost/abandoned row",
  "result for unknown row",
  "ack lost",
  "ack stored by agent, database loses suffix",
  "cancel and claim on rank 0",
  "cancel recorded, then re-offer",
  "cancel overtakes offer",
  "cancel and start on the agent",
  "cancel and exit",
  "cancel and home death",
  "cancel, agent gone for ever",
  "abandon, then the late accept",
  "expiry (rank 0) and claim",
  "expiry at rank 1",
  "fast path, COMMIT unknown, client retries",
  "fast path and older queue / pause / drain / cap",
  "claim, session closes before send",
  "node paused between commit and send",
  "node paused, home moved",
  "SIGKILL of all nodes",
  "heartbeat while the database is down",
  "database clock steps",
  "duplicate key inside a batch",
  "revoke and claim",
  "agent removed, open attempts",
  "list version after failover",
  "go-away from all nodes",
  "drain and unanswered offers",
  "clone starts while the original runs",
] as const;
export type Pair = (typeof simulatedPairs)[number];

/** Pairs that do not occur here, and why. */
export const otherPairs: Readonly<Record<string, string>> = {
  "result overtakes its log":
    "cannot happen on one connection: outbox and link keep an attempt's order; test/unit/wire/link.test.ts",
  "result twice, rebuilt with other times":
    "cannot happen while RESULT is in the journal; planted as a bug instead, and found",
  "cancel confirmed by another journal":
    "a new journal's greeting has ended the row before: test/store/ownership.test.ts",
  "lost, then an offer of a paused node":
    "did not occur in thousands of seeds: its agent is away for the whole limit, and the offer's socket with it; test/unit/tasks/courier.test.ts",
  "lost, retried by a person, first still runs": "retry is not built yet",
  "two batches, crossing rows": "the model has no row locks: test/store/lock-order.test.ts",
  "seed through a balancer to a node already connected":
    "no balancer is simulated: test/integration/agent-faults.test.ts",
  "SSE client ahead of the database": "readers are not simulated: test/unit/tasks/followers.test.ts",
};

const closeMs = 60;

interface Known {
  claimedAtMs: Map<Place, number>;
  offeredBy: Set<number>;
  cancelsFrom: Set<number>;
  cancelledAtMs: number | undefined;
  home: Place | undefined;
  appendedAt: Place | undefined;
  appendedAtMs: number;
  finishedAt: Set<Place>;
}

export class PairWatch {
  readonly #sim: Simulation;
  readonly counts: Partial<Record<Pair, number>> = {};
  readonly #known = new Map<AttemptId, Known>();
  /** Greetings between their admission and what they read. */
  readonly #greeting = new Map<AgentId, Set<Place>>();
  /** Boots admitted at a node and not yet heard of by the agent. */
  readonly #unwelcomed = new Map<string, BootId>();
  readonly #lastOffer = new Map<AgentId, { readonly session: number; readonly atMs: number }>();
  readonly #goneAway = new Map<SimAgent, Set<number>>();
  readonly #unknownSubmits = new Set<string>();
  #databaseDownMs: number | undefined;

  constructor(sim: Simulation) {
    this.#sim = sim;
  }

  #met(pair: Pair): void {
    this.counts[pair] = (this.counts[pair] ?? 0) + 1;
  }

  #of(attempt: AttemptId): Known {
    let known = this.#known.get(attempt);
    if (known === undefined) {
      known = {
        claimedAtMs: new Map(),
        offeredBy: new Set(),
        cancelsFrom: new Set(),
        cancelledAtMs: undefined,
        home: undefined,
        appendedAt: undefined,
        appendedAtMs: -Infinity,
        finishedAt: new Set(),
      };
      this.#known.set(attempt, known);
    }
    return known;
  }

  get #nowMs(): number {
    return this.#sim.world.nowMs;
  }

  #row(attempt: AttemptId): AttemptRow | undefined {
    return this.#sim.database.model.attempts.get(attempt);
  }

  #journalHas(agent: AgentId, attempt: AttemptId): boolean {
    return this.#sim.agents.some(
      ({ options, journal }) => options.agent === agent && journal?.state.open.has(attempt) === true,
    );
  }

  #isPaused(place: Place): boolean {
    return this.#sim.nodes.some((node) => node.place === place && node.process?.life === "paused");
  }

  // ── statements ──────────────────────────────────────────────────────────────────────────────────────────────────

  executed({ place, name, items, answer }: Executed): void {
    switch (name) {
      case "submit":
        return this.#submitted(items as readonly NewSubmission[], answer as readonly SubmitOutcome[]);
      case "claim":
        return this.#claimed(place, items as ClaimInput, answer as readonly ClaimedAttempt[]);
      case "progress":
        for (const item of items as readonly Progress[]) this.#progressed(place, item);
        return;
      case "refuse":
        for (const item of items as readonly Refusal[]) this.#refused(item);
        return;
      case "release":
        this.#met("claim, session closes before send");
        return;
      case "append":
        for (const item of items as readonly LogAppend[]) this.#appended(place, item);
        return;
      case "resume":
        return this.#resumed(place, items as readonly ResumeHome[], answer as readonly ResumeOutcome[]);
      case "finish":
        return this.#finished(place, items as readonly Finish[], answer as readonly FinishOutcome[]);
      case "greet":
        return this.#greeted(place, items as Greeting, answer as GreetOutcome);
      case "read-open":
        this.#greeting.get(items as AgentId)?.delete(place);
        return;
      case "cancel":
        return this.#cancelled(answer as readonly CancelledTask[]);
      case "abandon":
        return this.#abandoned(answer as AbandonedTask | undefined);
      case "remove-agent":
        if (answer !== undefined) this.#removed(answer as RemovedAgent);
        return;
      case "sweep-expire":
        return this.#expired(answer as readonly TaskId[]);
      case "sweep-unreachable":
        for (const task of answer as readonly TaskId[])
          if (this.#rowOf(task)?.cancelRequested === true) this.#met("cancel, agent gone for ever");
        return;
      default:
    }
  }

  #rowOf(task: TaskId): AttemptRow | undefined {
    return [...this.#sim.database.model.attempts.rows.values()].find((row) => row.task === task);
  }

  #submitted(items: readonly NewSubmission[], outcomes: readonly SubmitOutcome[]): void {
    const keys = new Set(items.map(({ idempotencyKey }) => idempotencyKey));
    if (keys.size < items.length) this.#met("duplicate key inside a batch");
    for (const [index, item] of items.entries()) {
      const outcome = outcomes[index];
      if (outcome?.kind === "repeated" && this.#unknownSubmits.has(item.idempotencyKey))
        this.#met("fast path, COMMIT unknown, client retries");
      if (outcome?.kind === "stored" && outcome.offered.size > 0) this.#unknownSubmits.add(item.idempotencyKey);
      if (item.tasks.some(({ offer, agent }) => offer === undefined && this.#hasQueue(agent)))
        this.#met("fast path and older queue / pause / drain / cap");
    }
  }

  #hasQueue(agent: AgentId): boolean {
    return [...this.#sim.database.model.attempts.rows.values()].some((row) => row.agent === agent && row.rank === 0);
  }

  #claimed(place: Place, input: ClaimInput, claimed: readonly ClaimedAttempt[]): void {
    const { model } = this.#sim.database;
    for (const { agent } of input.credits) {
      if (model.agents.get(agent)?.status === "revoked") this.#met("revoke and claim");
      for (const row of model.attempts.rows.values())
        if (
          row.agent === agent &&
          row.rank === 1 &&
          row.cancelRequested &&
          (row.offerUntilMs ?? Infinity) < model.nowMs
        )
          this.#met("cancel recorded, then re-offer");
    }
    for (const { attempt, agent, offerNo } of claimed) {
      const known = this.#of(attempt);
      if (known.cancelledAtMs !== undefined && this.#nowMs - known.cancelledAtMs < closeMs)
        this.#met("cancel and claim on rank 0");
      if (offerNo > 1 && this.#journalHas(agent, attempt)) this.#met("accept lost, re-offer");
      if (offerNo > 1 && this.#row(attempt)?.reason === "") this.#busy.delete(attempt);
      if (this.#busy.delete(attempt)) this.#met("refuse(busy) and claim");
      if ([...(this.#greeting.get(agent) ?? [])].some((other) => other !== place))
        this.#met("greeting at C, offer from A in flight");
      if (this.#isPaused(place)) this.#met("node paused between commit and send");
      known.claimedAtMs.set(place, this.#nowMs);
    }
  }

  readonly #busy = new Set<AttemptId>();

  #progressed(place: Place, { agent, reached, attempt }: Progress): void {
    if (reached === "accepted" && [...(this.#greeting.get(agent) ?? [])].some((other) => other !== place))
      this.#met("greeting at C, accept through A");
    if (this.#row(attempt)?.state === "abandoned") this.#met("abandon, then the late accept");
    const known = this.#of(attempt);
    known.home ??= place;
  }

  #abandoned(abandoned: AbandonedTask | undefined): void {
    if (abandoned?.changed !== true || abandoned.state !== "abandoned") return;
    const isGone = this.#sim.truth.stranded.has(abandoned.agent);
    if (isGone && this.#of(abandoned.attempt).cancelledAtMs !== undefined) this.#met("cancel, agent gone for ever");
  }

  #removed({ tasks }: RemovedAgent): void {
    if (tasks.some((task) => this.#rowOf(task)?.state === "lost")) this.#met("agent removed, open attempts");
  }

  #refused({ attempt, class: kind, offerNo, reason }: Refusal): void {
    const row = this.#row(attempt);
    if (kind === "later" && row !== undefined && offerNo < row.offerNo)
      this.#met("refuse(later) by A, offer by B in flight");
    if (kind === "later" && reason.startsWith("busy")) {
      this.#busy.add(attempt);
      if (this.#of(attempt).claimedAtMs.size > 1) this.#met("refuse(busy) and claim");
    }
  }

  #appended(place: Place, { attempt, homeNo }: LogAppend): void {
    const known = this.#of(attempt);
    const log = this.#sim.database.model.logs.get(attempt);
    if (log !== undefined && log.homeNo > homeNo && known.home !== place) this.#met("resume commits, then old batch");
    known.appendedAt = place;
    known.appendedAtMs = this.#nowMs;
  }

  #resumed(place: Place, items: readonly ResumeHome[], outcomes: readonly ResumeOutcome[]): void {
    for (const [index, { attempt, homeNo }] of items.entries()) {
      const known = this.#of(attempt);
      const outcome = outcomes[index];
      if (known.appendedAt !== undefined && known.appendedAt !== place)
        this.#met("two homes: old batch commits, then resume");
      if (outcome?.kind === "row" && outcome.homeNo > homeNo) this.#met("resume messages reordered (A→B→A)");
      if (known.home !== undefined && known.home !== place && this.#isPaused(known.home))
        this.#met("node paused, home moved");
      known.home = place;
    }
  }

  #finished(place: Place, items: readonly Finish[], outcomes: readonly FinishOutcome[]): void {
    for (const [index, { attempt, record }] of items.entries()) {
      const known = this.#of(attempt);
      known.finishedAt.add(place);
      if (known.finishedAt.size > 1) this.#met("result through A and B");
      const log = this.#sim.database.model.logs.get(attempt);
      const row = this.#row(attempt);
      switch (outcomes[index]?.kind) {
        case "stored":
          if (this.#nowMs - known.appendedAtMs < 600) this.#met("log async, result sync, other connection");
          if (log !== undefined && (log.next.out > record.out.length || log.next.err > record.err.length))
            this.#met("result, server has more log");
          break;
        case "behind":
          this.#met("result read while a chunk commits");
          break;
        case "same":
          this.#met("ack lost");
          break;
        case "late":
          if (row?.state === "lost" || row?.state === "abandoned") this.#met("result for lost/abandoned row");
          break;
        case "unknown":
          this.#met("result for unknown row");
          break;
        case undefined:
      }
    }
  }

  #greeted(place: Place, greeting: Greeting, outcome: GreetOutcome): void {
    const { agent, bootId, journalId, bootCounter } = greeting;
    const row = this.#sim.database.model.agents.get(agent);
    if (outcome.kind === "superseded" && row?.journalId === journalId && bootCounter < (row.bootCounter ?? 0))
      this.#met("old process's hello after the new one's");
    if (outcome.kind !== "admitted") return;
    const open = this.#greeting.get(agent) ?? new Set();
    open.add(place);
    this.#greeting.set(agent, open);
    if (open.size > 2) this.#met("greetings at A, B, C together");
    const key = `${agent}/${place}`;
    if (this.#unwelcomed.get(key) === bootId) this.#met("welcome lost after the boot pair was stored");
    this.#unwelcomed.set(key, bootId);
  }

  #cancelled(answers: readonly CancelledTask[]): void {
    for (const { attempt } of answers) {
      const known = this.#of(attempt);
      known.cancelledAtMs ??= this.#nowMs;
      if ([...known.claimedAtMs.values()].some((atMs) => this.#nowMs - atMs < closeMs))
        this.#met("cancel and claim on rank 0");
    }
  }

  #expired(tasks: readonly TaskId[]): void {
    if (tasks.length > 0) this.#met("expiry (rank 0) and claim");
    const { model } = this.#sim.database;
    for (const row of model.attempts.rows.values())
      if (row.rank === 1 && row.expiresAtMs < model.nowMs) this.#met("expiry at rank 1");
  }

  // ── agents ──────────────────────────────────────────────────────────────────────────────────────────────────────

  opened(agent: SimAgent, node: NodeId): void {
    const place = this.#sim.nodes.find(({ id }) => id === node)?.place ?? "";
    this.#unwelcomed.delete(`${agent.options.agent}/${place}`);
  }

  received(agent: SimAgent, session: number, message: FromNode): void {
    switch (message.type) {
      case "offer":
        for (const { attempt } of message.items) this.#offered(agent, session, attempt);
        return;
      case "cancel":
        for (const { attempt } of message.items) this.#cancelArrived(agent, session, attempt);
        return;
      case "nodes":
        if (this.#sim.database.model.timeline > 1) this.#met("list version after failover");
        return;
      case "go-away": {
        const gone = this.#goneAway.get(agent) ?? new Set();
        gone.add(session);
        this.#goneAway.set(agent, gone);
        if (gone.size >= agent.sessionCount) this.#met("go-away from all nodes");
        return;
      }
      default:
    }
  }

  #offered(agent: SimAgent, session: number, attempt: AttemptId): void {
    const known = this.#of(attempt);
    known.offeredBy.add(session);
    if (known.offeredBy.size > 1) this.#met("A and B offer the same attempt");
    const last = this.#lastOffer.get(agent.options.agent);
    if (last !== undefined && last.session !== session && this.#nowMs - last.atMs < closeMs)
      this.#met("ready in flight against offer in flight");
    this.#lastOffer.set(agent.options.agent, { session, atMs: this.#nowMs });
    if (agent.journal?.state.closed.get(attempt) !== undefined) this.#met("refuse(never) by A, accept through B");
  }

  #cancelArrived(agent: SimAgent, session: number, attempt: AttemptId): void {
    const known = this.#of(attempt);
    known.cancelsFrom.add(session);
    if (known.cancelsFrom.size > 1) this.#met("cancel and home death");
    const state = agent.journal?.state;
    if (state === undefined) return;
    if (!state.open.has(attempt) && !state.acknowledged.has(attempt) && !state.closed.has(attempt))
      this.#met("cancel overtakes offer");
    const folder = agent.machine.folder(attempt);
    const shim = folder?.shim;
    if (shim !== undefined && (shim.stage === "spawned" || shim.stage === "gate"))
      this.#met("cancel and start on the agent");
    if (folder?.isOver === true && state.open.get(attempt)?.result === undefined) this.#met("cancel and exit");
  }

  /** A probe was answered beside a process that works. */
  probed(agent: SimAgent): void {
    if (agent.sessionCount > 0 && (agent.engine?.size.open ?? 0) > 0) this.#met("register/doctor while running");
  }

  // ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────

  allNodesKilled(): void {
    this.#met("SIGKILL of all nodes");
  }

  clockStepped(): void {
    this.#met("database clock steps");
  }

  cloned(original: SimAgent): void {
    if (original.process !== undefined) this.#met("clone starts while the original runs");
  }

  journalReplaced(agent: AgentId): void {
    for (const row of this.#sim.database.model.attempts.rows.values())
      if (row.agent === agent && row.rank === 1 && this.#sim.truth.scripts.has(row.id))
        this.#met("accept lost, journal replaced");
  }

  databaseCrashed(lost: readonly string[]): void {
    this.#databaseDownMs = this.#nowMs;
    if (lost.includes("append")) this.#met("log async, database crash");
  }

  databaseFailedOver(lost: readonly string[]): void {
    this.#databaseDownMs = this.#nowMs;
    if (!lost.includes("finish")) return;
    const isKept = this.#sim.agents.some(({ journal }) =>
      [...(journal?.state.acknowledged.keys() ?? [])].some((attempt) => (this.#row(attempt)?.rank ?? 0) < 9),
    );
    if (isKept) this.#met("ack stored by agent, database loses suffix");
  }

  databaseRecovered(): void {
    const downMs = this.#databaseDownMs === undefined ? 0 : this.#nowMs - this.#databaseDownMs;
    if (downMs > 3_000) this.#met("heartbeat while the database is down");
    this.#databaseDownMs = undefined;
  }

  drained(place: Place): void {
    for (const [attempt, { claimedAtMs }] of this.#known) {
      const atMs = claimedAtMs.get(place);
      if (atMs !== undefined && this.#nowMs - atMs < 3_000 && this.#row(attempt)?.rank === 1)
        this.#met("drain and unanswered offers");
    }
  }
}
