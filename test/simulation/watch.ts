// Invariants that hold after every event (RELIABILITY 3.6): looked at where rows change, scripts start, frames arrive and
// files go, so that the first wrong change is the one reported.
import type { AgentId, AttemptId, TaskId } from "../../shared/ids.ts";
import { rankOf, streams, taskSpecSchema, type Isolation } from "../../shared/task.ts";
import type { FromNode } from "../../shared/wire/from-node.ts";
import type { SimAgent } from "./agent.ts";
import type { ResumeHome } from "../../server/store/resume-attempts.ts";
import type { Executed } from "./database-server.ts";
import type { ModelDatabase } from "./model/database.ts";
import type { AgentRow, AttemptRow, LogRow } from "./model/rows.ts";
import type { Machine } from "./machine.ts";
import type { End, Place } from "./network.ts";
import { bytesAt } from "./script.ts";
import type { Truth } from "./truth.ts";

export class Watch {
  readonly #db: ModelDatabase;
  readonly #truth: Truth;
  readonly #fail: (cause: Error) => void;
  /** Attempts ever offered, and whose each is. */
  /** Agents whose newest boot a failover took back. */
  readonly #bootForgotten = new Set<AgentId>();
  readonly #offered = new Set<AttemptId>();
  readonly #ownerOf = new Map<AttemptId, AgentId>();
  /** Rows of which a crash or failover undid a change: their ranks may be seen to fall. */
  readonly #undone = new Set<AttemptId>();
  readonly #seen = new Map<TaskId, number>();
  /** Agents with a copy somewhere: which of the two is right nobody can tell. */
  readonly cloned = new Set<AgentId>();
  #isFailover = false;

  /** Where the home of an attempt was moved last, by whoever executed it. */
  readonly #homes = new Map<AttemptId, { readonly place: Place; readonly homeNo: number }>();
  readonly #executing: () => Place | undefined;

  constructor(deps: {
    readonly db: ModelDatabase;
    readonly truth: Truth;
    readonly fail: (cause: Error) => void;
    readonly executing: () => Place | undefined;
  }) {
    this.#executing = deps.executing;
    this.#db = deps.db;
    this.#truth = deps.truth;
    this.#fail = deps.fail;
    deps.db.attempts.watch = { changed: (before, after, by) => this.#attempt(before, after, by) };
    deps.db.logs.watch = { changed: (before, after, by) => this.#log(before, after, by) };
    deps.db.lateResults.watch = {
      changed: (before, after, by) => {
        const attempt = (before ?? after)?.attempt;
        if (by === "undo" && this.#isFailover && attempt !== undefined)
          this.#truth.excused.set(attempt, "a failover took its late result");
      },
    };
    deps.db.agents.watch = { changed: (before, after, by) => this.#agent(before, after, by) };
  }

  /** While a failover takes commits back, what it takes is excused. */
  duringFailover(act: () => void): void {
    this.#isFailover = true;
    act();
    this.#isFailover = false;
  }

  #violated(invariant: string, text: string): void {
    this.#fail(new Error(`${invariant}: ${text}`));
  }

  #isExcused(attempt: AttemptId): boolean {
    const owner = this.#ownerOf.get(attempt);
    return this.#truth.excused.has(attempt) || (owner !== undefined && this.cloned.has(owner));
  }

  #isCloned(attempt: AttemptId): boolean {
    const owner = this.#ownerOf.get(attempt);
    return owner !== undefined && this.cloned.has(owner);
  }

  /** A home that was moved is the only one whose writes count from then on (I16). */
  executed({ place, name, items }: Executed): void {
    if (name !== "resume") return;
    for (const { attempt, homeNo } of items as readonly ResumeHome[]) {
      const known = this.#homes.get(attempt);
      if (known === undefined || homeNo >= known.homeNo) this.#homes.set(attempt, { place, homeNo });
    }
  }

  // ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #attempt(before: AttemptRow | undefined, after: AttemptRow | undefined, by: "statement" | "undo"): void {
    const id = (after ?? before)?.id;
    if (id === undefined) return;
    if (by === "undo") {
      this.#undone.add(id);
      if (this.#isFailover) this.#truth.excused.set(id, "a failover took a commit of it");
      return;
    }
    if (after === undefined) return;
    this.#ownerOf.set(id, after.agent);
    if (after.offerNo > 0) this.#offered.add(id);
    this.#grows(before, after);
    this.#staysFinal(before, after);
    this.#keepsJournal(before, after);
    this.#endsTree(before, after);
    this.#offersToTrusted(before, after);
    this.#followsTheLast(before, after);
  }

  /** I15: after the commit that revokes or removes an agent nothing more is offered to it. */
  #offersToTrusted(before: AttemptRow | undefined, after: AttemptRow): void {
    if (after.rank !== 1 || after.offerNo <= (before?.offerNo ?? 0)) return;
    const agent = this.#db.agents.get(after.agent);
    if (agent?.status !== "active")
      this.#violated("I15", `${after.id} is offered to ${agent?.name}, which is ${agent?.status}`);
    if (agent?.isPaused === true || this.#db.cluster.get("one")?.paused === true)
      this.#violated("pause", `${after.id} is offered to ${agent?.name} while it or the cluster is paused`);
  }

  /** I5: another attempt at a task begins only when the one before has ended. */
  #followsTheLast(before: AttemptRow | undefined, after: AttemptRow): void {
    if (before !== undefined || after.number === 1) return;
    const last = [...this.#db.attempts.rows.values()].find(
      (row) => row.task === after.task && row.number === after.number - 1,
    );
    if (last?.rank !== 9)
      this.#violated("I5", `attempt ${after.number} of ${after.task} began while the last is ${last?.state}`);
  }

  /** I3: legal edges, growing ranks. */
  #grows(before: AttemptRow | undefined, after: AttemptRow): void {
    if (rankOf(after.state) !== after.rank)
      this.#violated("I3", `${after.id} has rank ${after.rank} and is ${after.state}`);
    if (before === undefined) {
      if (after.rank > 1) this.#violated("I3", `${after.id} begins with rank ${after.rank}`);
    } else if (after.rank < before.rank) {
      this.#violated("I3", `${after.id} falls from rank ${before.rank} to ${after.rank}`);
    }
  }

  /** I8: one outcome, once visible, for ever. */
  #staysFinal(before: AttemptRow | undefined, after: AttemptRow): void {
    if (before?.rank !== 9) return;
    const told = ({ state, reason, exitCode, signal, resultSha256 }: AttemptRow): string =>
      JSON.stringify([state, reason, exitCode, signal, resultSha256]);
    if (told(before) !== told(after)) this.#violated("I8", `${after.id} was ${told(before)} and is ${told(after)}`);
  }

  /** I16: what is bound to one journal is never moved to another. */
  #keepsJournal(before: AttemptRow | undefined, after: AttemptRow): void {
    if (before?.journalId === null || before === undefined || before.rank === 0) return;
    if (after.journalId !== before.journalId) this.#violated("I16", `${after.id} was moved to another journal`);
  }

  /** I12: a cancel or time-out is confirmed only when nothing of the tree is left. */
  #endsTree(before: AttemptRow | undefined, after: AttemptRow): void {
    if (before?.rank === 9 || after.rank !== 9 || after.result === null) return;
    if (after.state !== "cancelled" && after.state !== "timed-out") return;
    if (this.#truth.scripts.get(after.id)?.isAlive === true && !this.#isExcused(after.id))
      this.#violated("I12", `${after.id} is ${after.state} and something of it still runs`);
  }

  /**
   * I16: a home number belongs to one node. A piece of log may be what tells of a new home, when the greeting's own
   * statement was lost or another node's word of the number came first.
   */
  #wroteLog({ attempt, homeNo }: LogRow, place: Place): void {
    const home = this.#homes.get(attempt);
    if (home === undefined || home.homeNo < homeNo) this.#homes.set(attempt, { place, homeNo });
    else if (home.place !== place && !this.#undone.has(attempt))
      this.#violated(
        "I16",
        `${attempt} has its home ${home.homeNo} at ${home.place} and ${place} wrote its log as ${homeNo}`,
      );
  }

  /** I9: what is stored is a prefix of what was produced, byte for byte; I16: home numbers grow. */
  #log(before: LogRow | undefined, after: LogRow | undefined, by: "statement" | "undo"): void {
    if (by === "undo" || before === undefined || after === undefined) return;
    const { attempt } = after;
    if (after.homeNo < before.homeNo) this.#violated("I16", `home of ${attempt} fell to ${after.homeNo}`);
    const place = this.#executing();
    if (place !== undefined && streams.some((stream) => after.next[stream] > before.next[stream]))
      this.#wroteLog(after, place);
    if (before.closed && !after.closed) this.#violated("I8", `the log of ${attempt} was opened again`);
    const produced = this.#truth.scripts.get(attempt)?.produced ?? { out: 0, err: 0 };
    for (const stream of streams) {
      let end = before.next[stream];
      for (const chunk of after.chunks[stream].slice(before.chunks[stream].length)) {
        if (chunk.offset !== end)
          this.#violated("I9", `${stream} of ${attempt} goes on at ${chunk.offset}, not at ${end}`);
        end += chunk.length;
        if (chunk.content === null) continue;
        const expected = bytesAt({ attempt, stream }, chunk.offset, chunk.length);
        if (Buffer.compare(chunk.content, expected) !== 0)
          this.#violated("I9", `${stream} of ${attempt} holds other bytes at ${chunk.offset}`);
      }
      if (before.closed && after.next[stream] !== before.next[stream])
        this.#violated("I8", `the closed log of ${attempt} grew`);
      if (after.next[stream] !== end)
        this.#violated("I9", `${stream} of ${attempt} says ${after.next[stream]}, holds ${end}`);
      if (end > produced[stream])
        this.#violated("I9", `${stream} of ${attempt} has ${end} of ${produced[stream]} bytes`);
    }
  }

  /** I18: the boot counter of a journal strictly grows, and a retired journal never comes back. */
  #agent(before: AgentRow | undefined, after: AgentRow | undefined, by: "statement" | "undo"): void {
    if (before === undefined || after === undefined || before.bootId === after.bootId) return;
    if (by === "undo") {
      this.#bootForgotten.add(before.id);
      return;
    }
    if (after.journalId !== null && before.retiredJournals.includes(after.journalId))
      this.#violated("I18", `${after.name} is back with a retired journal`);
    if (before.journalId === after.journalId && (after.bootCounter ?? 0) <= (before.bootCounter ?? 0))
      this.#violated("I18", `${after.name} went from boot ${before.bootCounter} to ${after.bootCounter}`);
  }

  // ── scripts, frames, files, readers ─────────────────────────────────────────────────────────────────────────────

  /** I4: at most one start. I6: an offer was committed before. I12: nothing starts once it is over. */
  started(attempt: AttemptId): void {
    const starts = this.#truth.scripts.get(attempt)?.startsMs.length ?? 0;
    if (this.#isCloned(attempt)) return;
    // Forgotten by both: its agent's disk was replaced or rolled back, and a failover took the commit of its offer.
    const isForgotten = this.#truth.excused.has(attempt) && this.#truth.scripts.get(attempt)?.wasCutShort === true;
    if (starts > 1 && !isForgotten) this.#violated("I4", `${attempt} started ${starts} times`);
    if (!this.#offered.has(attempt)) this.#violated("I6", `${attempt} started and was never offered`);
    this.#runsBeside(attempt);
    const row = this.#db.attempts.get(attempt);
    if (row?.rank !== 9 || this.#isExcused(attempt)) return;
    const isOver =
      row.result !== null || row.state === "cancelled" || row.state === "expired" || row.state === "refused";
    if (isOver) this.#violated("I12", `${attempt} started when it was ${row.state} already`);
  }

  /** I25: nothing of one agent runs beside it that excludes it; what a lost disk left running nobody knows of. */
  #runsBeside(attempt: AttemptId): void {
    const isolation = this.#isolationOf(attempt);
    if (isolation === undefined || this.#isExcused(attempt)) return;
    for (const other of this.#truth.scripts.values()) {
      if (!other.isAlive || other.attempt === attempt || other.wasCutShort || this.#isExcused(other.attempt)) continue;
      if (this.#ownerOf.get(other.attempt) !== this.#ownerOf.get(attempt)) continue;
      const held = this.#isolationOf(other.attempt);
      if (held?.name !== isolation.name || (held.mode === "none" && isolation.mode === "none")) continue;
      this.#violated("I25", `${attempt} started beside ${other.attempt}: ${isolation.mode} and ${held.mode}`);
    }
  }

  #isolationOf(attempt: AttemptId): Pick<Isolation, "name" | "mode"> | undefined {
    const task = this.#db.attempts.get(attempt)?.task;
    const spec = task === undefined ? undefined : this.#db.tasks.get(task)?.spec;
    if (spec === undefined) return undefined;
    const parsed = taskSpecSchema.parse(JSON.parse(spec));
    return parsed.kind === "script" ? (parsed.isolation ?? { name: "default", mode: "none" }) : undefined;
  }

  /** I11: an agent hears of its own attempts only. I18: a journal known to be old is offered nothing. */
  received(agent: SimAgent, message: FromNode): void {
    for (const attempt of attemptsOf(message)) {
      const owner = this.#ownerOf.get(attempt);
      if (owner !== undefined && owner !== agent.options.agent)
        this.#violated("I11", `${message.type} of another agent's ${attempt} reached ${agent.options.name}`);
    }
    // A failover that took the greeting took with it what would have told the old journal.
    if (this.#bootForgotten.has(agent.options.agent)) return;
    if (message.type === "offer" && agent.machine.tampering === "rolled-back")
      this.#violated("I18", `${agent.options.name} was offered work with a journal that was rolled back`);
  }

  /** I18: a greeting that is a probe is no session: nothing is offered to it, and it takes no other one's place. */
  probing(end: End, isSession: () => boolean): void {
    const { handlers } = end;
    if (handlers === undefined) return;
    const look = (): void => {
      if (isSession()) this.#violated("I18", `the probe from ${end.place} was taken for a session`);
    };
    end.handlers = {
      ...handlers,
      frame: (frame) => {
        look();
        handlers.frame(frame);
      },
      ended: (code, reason) => {
        look();
        handlers.ended(code, reason);
      },
    };
  }

  /** I23: files go only after an acknowledgement that the database confirms. */
  removed(machine: Machine, attempt: AttemptId): void {
    if (machine.tampering !== "none" || this.#isExcused(attempt)) return;
    const script = this.#truth.scripts.get(attempt);
    if (script === undefined || script.machine !== machine.place || script.startsMs.length === 0) return;
    if (this.#db.attempts.get(attempt)?.rank !== 9)
      this.#violated("I23", `the files of ${attempt} were removed too early`);
  }

  /** I26: no reader sees a rank fall, except of what a database crash took back. */
  read(task: TaskId, { rank }: { readonly rank: number }): void {
    const before = this.#seen.get(task) ?? 0;
    this.#seen.set(task, Math.max(rank, before));
    if (rank >= before) return;
    const row = [...this.#db.attempts.rows.values()].find((attempt) => attempt.task === task);
    if (row !== undefined && !this.#undone.has(row.id))
      this.#violated("I26", `${task} was seen at ${before}, then at ${rank}`);
  }
}

export function attemptsOf(message: FromNode): AttemptId[] {
  switch (message.type) {
    case "offer":
    case "cancel":
    case "result-ack":
      return message.items.map(({ attempt }) => attempt);
    case "inquire":
      return message.items;
    case "log-ack":
    case "resume-from":
      return [message.attempt];
    default:
      return [];
  }
}
