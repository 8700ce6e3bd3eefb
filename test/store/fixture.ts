// A migrated database of its own for one test file, with shorthands for rows that nearly every test needs.
// Invariant: after the file's last test no connection and no database is left.
import { afterAll, beforeAll, inject } from "vitest";
import { systemClock } from "../../shared/clock.ts";
import {
  agentIdSchema,
  attemptIdSchema,
  bootIdSchema,
  clusterIdSchema,
  createIdSource,
  journalIdSchema,
  newId,
  nodeIdSchema,
  submissionIdSchema,
  taskIdSchema,
  type AgentId,
  type AttemptId,
  type BootId,
  type JournalId,
  type NodeId,
  type TaskId,
} from "../../shared/ids.ts";
import { silentLogger } from "../../shared/logger.ts";
import { SystemRandom } from "../../shared/random.ts";
import type { Lane } from "../../shared/task.ts";
import type { ResultRecord } from "../../shared/wire/result.ts";
import { insertAgent } from "../../server/store/agent-certificates.ts";
import type { ClaimCredit } from "../../server/store/claim-attempts.ts";
import { Database } from "../../server/store/connection.ts";
import { joinNode } from "../../server/store/membership.ts";
import { migrate } from "../../server/store/migrate.ts";
import type { GroupedStore } from "../../server/store/grouped-store.ts";
import { createPostgresStore } from "../../server/store/postgres-store.ts";
import type { NewSubmission, NewTask } from "../../server/store/submit-tasks.ts";
import { createCluster } from "../../server/store/trust.ts";
import { createDatabase, type TestDatabase } from "../harness/postgres.ts";

export const ids = createIdSource({ clock: systemClock, random: new SystemRandom() });
export const scriptSpec = JSON.stringify({ kind: "script", interpreter: "sh", script: "true", graceMs: 1_234 });

export interface TestAgent {
  readonly id: AgentId;
  readonly name: string;
  readonly bootCounter: number;
  readonly bootId: BootId;
  readonly journalId: JournalId;
}

export interface TestNode {
  readonly id: NodeId;
  readonly bootId: BootId;
  readonly name: string;
}

export interface QueuedTask {
  readonly task: TaskId;
  readonly attempt: AttemptId;
  readonly agent: AgentId;
}

export interface QueueOptions {
  readonly count?: number;
  readonly lane?: Lane;
  readonly band?: NewTask["band"];
  readonly spec?: string;
  readonly queueMs?: number;
  readonly unreachableLimitMs?: number;
}

export type Row = Readonly<Record<string, unknown>>;

export class Lab {
  #test: TestDatabase | undefined;
  #database: Database | undefined;
  #store: GroupedStore | undefined;
  readonly #others: Database[] = [];
  readonly node: TestNode = { id: newId(ids, nodeIdSchema), bootId: newId(ids, bootIdSchema), name: "node-a" };

  get url(): string {
    return present(this.#test).url;
  }

  get database(): Database {
    return present(this.#database);
  }

  get store(): GroupedStore {
    return present(this.#store);
  }

  async start(): Promise<void> {
    this.#test = await createDatabase(inject("databaseUrl"));
    this.#database = await this.connect();
    await migrate(this.#database);
    const cluster = { id: newId(ids, clusterIdSchema), name: "test", keyCheck: Buffer.from("check") };
    await createCluster(this.#database.durable, cluster);
    await this.join(this.node);
    this.#store = createPostgresStore(this.#database);
  }

  async stop(): Promise<void> {
    await this.#store?.settle();
    await Promise.all(this.#others.map((database) => database.stop()));
    await this.#test?.drop();
  }

  /** One more Database object on the same database, as another node would hold it. */
  async connect(): Promise<Database> {
    const database = new Database({ logger: silentLogger }, { url: this.url, poolSize: 4 });
    await database.start();
    this.#others.push(database);
    return database;
  }

  /** Plain SQL, for what no verb does: moving time stamps, looking at rows. */
  async sql(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    return (await this.database.durable.query({ name: "", text }, values)) as Row[];
  }

  async join(node: TestNode): Promise<boolean> {
    const { id, bootId, name } = node;
    return await joinNode(this.database.durable, { id, name, bootId, version: "1.0.0", addresses: [`${name}:10943`] });
  }

  /** Another node, joined. */
  async otherNode(name: string): Promise<TestNode> {
    const node = { id: newId(ids, nodeIdSchema), bootId: newId(ids, bootIdSchema), name };
    await this.join(node);
    return node;
  }

  /** An enrolled agent; greeted unless told otherwise. */
  async agent(options: { readonly greeted?: "yes" | "no" } = {}): Promise<TestAgent> {
    const id = newId(ids, agentIdSchema);
    const agent: TestAgent = { id, name: `agent-${id}`, ...newBoot() };
    await insertAgent(this.database.durable, { id, name: agent.name, labels: {} });
    if (options.greeted !== "no") await this.greet(agent);
    return agent;
  }

  async greet(agent: TestAgent, intent: "session" | "probe" = "session") {
    return await this.store.greet(greetingOf(agent, intent));
  }

  /** Queued tasks of one agent, submitted together. */
  async queue(agent: Pick<TestAgent, "id">, options: QueueOptions = {}): Promise<QueuedTask[]> {
    const tasks = Array.from({ length: options.count ?? 1 }, () => newTask(agent.id, options));
    const outcome = await this.store.submit(newSubmission(this.node, tasks));
    if (outcome.kind !== "stored") throw new Error(`expected stored, saw ${outcome.kind}`);
    return tasks.map(({ task, attempt }) => ({ task, attempt, agent: agent.id }));
  }

  async queueOne(agent: Pick<TestAgent, "id">, options: QueueOptions = {}): Promise<QueuedTask> {
    return first(await this.queue(agent, options));
  }

  /** A task whose attempt is offered to the agent. */
  async offered(agent: TestAgent, options: QueueOptions = {}): Promise<QueuedTask> {
    const queued = await this.queueOne(agent, options);
    await this.claim(agent, { lane: options.lane ?? "work" });
    return queued;
  }

  /** A task that the agent has accepted through this node, home number 1. */
  async accepted(agent: TestAgent, options: QueueOptions = {}): Promise<QueuedTask> {
    const queued = await this.offered(agent, options);
    await this.store.progress({ ...progressOf(agent, queued), node: this.node.id });
    return queued;
  }

  claim(agent: TestAgent, options: { readonly lane?: Lane; readonly credit?: number; readonly node?: NodeId } = {}) {
    const { node = this.node.id, ...credit } = options;
    return this.store.claim({ node, credits: [creditOf(agent, credit)], most: 100 });
  }

  async attempt(id: AttemptId): Promise<Row> {
    const rows = await this.sql(
      `select a.*, l.home_no, l.closed, l.out_next, l.err_next from attempt a join attempt_log l on l.attempt_id = a.id where a.id = $1`,
      [id],
    );
    return first(rows);
  }

  /** The attempt's stored log of one stream: bytes as text, omissions as `<n>`. */
  async log(id: AttemptId, stream: 0 | 1): Promise<string> {
    const rows = await this.sql(
      `select length::int, content from log_chunk where attempt_id = $1 and stream = $2 order by start_offset`,
      [id, stream],
    );
    return rows
      .map((row) => (row["content"] instanceof Buffer ? row["content"].toString() : `<${Number(row["length"])}>`))
      .join("");
  }

  /** Lets the offer's window pass. */
  async expireOffer(id: AttemptId): Promise<void> {
    await this.sql(`update attempt set offer_until = clock_timestamp() - interval '1 second' where id = $1`, [id]);
  }
}

/** A Lab for the calling test file. */
export function useLab(): Lab {
  const lab = new Lab();
  beforeAll(() => lab.start());
  afterAll(() => lab.stop());
  return lab;
}

export function newBoot(bootCounter = 1): Pick<TestAgent, "bootCounter" | "bootId" | "journalId"> {
  return { bootCounter, bootId: newId(ids, bootIdSchema), journalId: newId(ids, journalIdSchema) };
}

export function greetingOf(agent: TestAgent, intent: "session" | "probe" = "session") {
  const { id, bootCounter, bootId, journalId } = agent;
  return {
    agent: id,
    bootCounter,
    bootId,
    journalId,
    version: "1.0.0",
    capabilities: ["no-op"],
    host: { hostname: "h" },
    intent,
  };
}

export function creditOf(
  agent: TestAgent,
  credit: { readonly lane?: Lane; readonly credit?: number } = {},
): ClaimCredit {
  const { id, bootId, journalId } = agent;
  return { agent: id, bootId, journalId, lane: credit.lane ?? "work", credit: credit.credit ?? 10 };
}

export function newTask(agent: AgentId, options: QueueOptions = {}): NewTask {
  return {
    task: newId(ids, taskIdSchema),
    attempt: newId(ids, attemptIdSchema),
    agent,
    lane: options.lane ?? "work",
    ...(options.band === undefined ? {} : { band: options.band }),
    spec: options.spec ?? scriptSpec,
    queueMs: options.queueMs ?? 86_400_000,
    unreachableLimitMs: options.unreachableLimitMs ?? 86_400_000,
    offer: undefined,
  };
}

export function newSubmission(node: TestNode, tasks: readonly NewTask[], key: string = ids.next()): NewSubmission {
  return {
    id: newId(ids, submissionIdSchema),
    principal: "tester",
    idempotencyKey: key,
    bodySha256: Buffer.alloc(32, 1),
    clientAddress: "192.0.2.7",
    node: node.id,
    offerWindowMs: 3_000,
    tasks,
  };
}

export function progressOf(agent: TestAgent, { attempt }: Pick<QueuedTask, "attempt">, homeNo = 1) {
  return { attempt, agent: agent.id, journalId: agent.journalId, homeNo, reached: "accepted" as const };
}

export const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

export function resultRecord(change: Partial<ResultRecord> = {}): ResultRecord {
  return {
    outcome: "succeeded",
    reason: "",
    exitCode: 0,
    signal: null,
    startedAtMs: 1_000,
    finishedAtMs: 2_000,
    durationMs: 1_000,
    out: { length: 0, sha256: emptyDigest },
    err: { length: 0, sha256: emptyDigest },
    ...change,
  };
}

export function first<T>(items: readonly T[]): T {
  const [found] = items;
  if (found === undefined) throw new Error("expected at least one item");
  return found;
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the lab is not started");
  return value;
}
