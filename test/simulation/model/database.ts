// The database as maps: tables whose changes can be undone, transactions one after another, and what a crash or a failover
// does to the last of them. Knows nothing of what statements mean.
// Invariant: a durable commit makes everything committed before it durable too, as one write-ahead log does.
import type { AgentId, AttemptId, NodeId, SubmissionId, TaskId } from "../../../shared/ids.ts";
import type {
  AgentRow,
  AttemptRow,
  ClusterRow,
  LateRow,
  LogRow,
  NodeRecord,
  PresenceRow,
  SubmissionRow,
  TaskRow,
} from "./rows.ts";

export interface TableWatch<Row> {
  /** After every change, undone ones included. */
  changed?(before: Row | undefined, after: Row | undefined, by: "statement" | "undo"): void;
}

export class Table<Key, Row> {
  readonly rows = new Map<Key, Row>();
  readonly #record: (undo: () => void) => void;
  watch: TableWatch<Row> = {};

  constructor(record: (undo: () => void) => void) {
    this.#record = record;
  }

  get(key: Key): Row | undefined {
    return this.rows.get(key);
  }

  put(key: Key, row: Row): void {
    const before = this.rows.get(key);
    this.#record(() => this.#restore(key, before));
    this.rows.set(key, row);
    this.watch.changed?.(before, row, "statement");
  }

  delete(key: Key): void {
    const before = this.rows.get(key);
    if (before === undefined) return;
    this.#record(() => this.#restore(key, before));
    this.rows.delete(key);
    this.watch.changed?.(before, undefined, "statement");
  }

  /** Takes over the rows of another table, unrecorded. */
  become(other: Table<Key, Row>): void {
    this.rows.clear();
    for (const [key, row] of other.rows) this.rows.set(key, row);
  }

  #restore(key: Key, row: Row | undefined): void {
    const now = this.rows.get(key);
    if (row === undefined) this.rows.delete(key);
    else this.rows.set(key, row);
    this.watch.changed?.(now, row, "undo");
  }
}

export type Commit = "durable" | "relaxed";

interface Committed {
  readonly name: string;
  readonly atMs: number;
  readonly undo: readonly (() => void)[];
  isDurable: boolean;
}

/** PostgreSQL's WAL writer flushes what relaxed commits left within three of its 200 ms rounds. */
const relaxedForMs = 600;
const keptMs = 20_000;

export class ModelDatabase {
  readonly #now: () => number;
  #undo: (() => void)[] | undefined;
  #history: Committed[] = [];
  readonly #record = (undo: () => void): void => {
    if (this.#undo === undefined) throw new Error("a row was changed outside a transaction");
    this.#undo.push(undo);
  };
  readonly agents = this.#table<AgentId, AgentRow>();
  readonly submissions = this.#table<SubmissionId, SubmissionRow>();
  /** By `principal\0key`. */
  readonly submissionKeys = this.#table<string, SubmissionId>();
  readonly tasks = this.#table<TaskId, TaskRow>();
  readonly attempts = this.#table<AttemptId, AttemptRow>();
  readonly logs = this.#table<AttemptId, LogRow>();
  /** By `attempt/digest`. */
  readonly lateResults = this.#table<string, LateRow>();
  /** By `agent/node`. */
  readonly presence = this.#table<string, PresenceRow>();
  readonly nodes = this.#table<NodeId, NodeRecord>();
  readonly cluster = this.#table<"one", ClusterRow>();
  /** The sequence of `attempt.queue_no`; drawn numbers are never given back by a roll-back. */
  #queueNo = 0;
  /** Grows with each failover. */
  timeline = 1;

  /** `now` is the database's own clock. */
  constructor(now: () => number) {
    this.#now = now;
    this.transaction("durable", "create", () =>
      this.cluster.put("one", { nodesVersion: 1, paused: false, settingsVersion: 1 }),
    );
  }

  /** The same rows at the same moment, without their history: to try what an order of statements would come to. */
  copy(): ModelDatabase {
    const copy = new ModelDatabase(this.#now);
    copy.agents.become(this.agents);
    copy.submissions.become(this.submissions);
    copy.submissionKeys.become(this.submissionKeys);
    copy.tasks.become(this.tasks);
    copy.attempts.become(this.attempts);
    copy.logs.become(this.logs);
    copy.lateResults.become(this.lateResults);
    copy.presence.become(this.presence);
    copy.nodes.become(this.nodes);
    copy.cluster.become(this.cluster);
    copy.#queueNo = this.#queueNo;
    copy.timeline = this.timeline;
    return copy;
  }

  get nowMs(): number {
    return this.#now();
  }

  /** The last number drawn. */
  get queueNo(): number {
    return this.#queueNo;
  }

  nextQueueNo(): number {
    this.#queueNo += 1;
    return this.#queueNo;
  }

  /** One transaction: all of `act` or, when it throws, nothing. */
  transaction<Answer>(commit: Commit, name: string, act: () => Answer): Answer {
    const undo: (() => void)[] = [];
    this.#undo = undo;
    try {
      const answer = act();
      if (undo.length > 0 || commit === "durable")
        this.#commit({ name, atMs: this.nowMs, undo, isDurable: false }, commit);
      return answer;
    } catch (cause) {
      for (const step of undo.toReversed()) step();
      throw cause;
    } finally {
      this.#undo = undefined;
    }
  }

  /** The machine under the database stops: of what was committed relaxed, a random suffix is gone. Answers what was lost. */
  crash(keep: (most: number) => number): string[] {
    const nowMs = this.nowMs;
    const firstLoose = this.#history.findIndex(({ isDurable, atMs }) => !isDurable && nowMs - atMs <= relaxedForMs);
    if (firstLoose === -1) return [];
    return this.#cut(firstLoose + keep(this.#history.length - firstLoose + 1));
  }

  /** A standby takes over that had not received the last transactions, durable or not. Answers what was lost. */
  failOver(lostMs: number): string[] {
    this.timeline += 1;
    const from = this.#history.findIndex(({ atMs }) => this.nowMs - atMs <= lostMs);
    return from === -1 ? [] : this.#cut(from);
  }

  #cut(from: number): string[] {
    const lost = this.#history.splice(from);
    for (const { undo } of lost.toReversed()) for (const step of undo.toReversed()) step();
    return lost.map(({ name }) => name);
  }

  #commit(committed: Committed, commit: Commit): void {
    this.#history.push(committed);
    if (commit === "durable") {
      for (let at = this.#history.length - 1; at >= 0; at -= 1) {
        const earlier = this.#history[at];
        if (earlier === undefined || earlier.isDurable) break;
        earlier.isDurable = true;
      }
    }
    if (this.#history.length > 4_000) this.#history = this.#history.filter(({ atMs }) => this.nowMs - atMs <= keptMs);
  }

  #table<Key, Row>(): Table<Key, Row> {
    return new Table<Key, Row>((undo) => this.#record(undo));
  }
}
