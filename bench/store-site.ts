// What the benches of the store stand on: an embedded PostgreSQL of their own with the product's schema, a node and agents
// in rows, and the node's own store on it, bounds on queues included. No sockets, no other process.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { insertAgent } from "../server/store/agent-certificates.ts";
import type { ClaimedAttempt } from "../server/store/claim-attempts.ts";
import { Database } from "../server/store/connection.ts";
import { EmbeddedPostgres } from "../server/store/embedded.ts";
import type { GroupedStore } from "../server/store/grouped-store.ts";
import { buildIndexes } from "../server/store/indexes.ts";
import { joinNode } from "../server/store/membership.ts";
import { migrate } from "../server/store/migrate.ts";
import { createPostgresStore } from "../server/store/postgres-store.ts";
import { QueueBounds } from "../server/store/queue-bounds.ts";
import { createCluster } from "../server/store/trust.ts";
import { Background } from "../shared/background.ts";
import { systemClock as clock } from "../shared/clock.ts";
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
  type BootId,
  type JournalId,
} from "../shared/ids.ts";
import { silentLogger as logger } from "../shared/logger.ts";
import { SystemRandom } from "../shared/random.ts";

const random = new SystemRandom();

export interface RowAgent {
  readonly id: AgentId;
  readonly name: string;
  readonly bootId: BootId;
  readonly journalId: JournalId;
}

export interface Timed {
  readonly verb: string;
  readonly ms: number;
}

const spec = JSON.stringify({ kind: "script", interpreter: "sh", script: "systemctl restart web", graceMs: 10_000 });
const ids = createIdSource({ clock, random });

export class StoreSite {
  readonly #folder: string;
  readonly #postgres: EmbeddedPostgres;
  readonly #background = new Background({ logger });
  readonly #bounds: QueueBounds;
  readonly node = newId(ids, nodeIdSchema);
  readonly database: Database;
  readonly store: GroupedStore;
  /** For rows made by the million and for looking at plans: without the limits the product sets its sessions. */
  readonly sql: Client;
  /** Every statement of the product's since it was last emptied. */
  readonly statements: Timed[] = [];

  private constructor(folder: string, postgres: EmbeddedPostgres) {
    this.#folder = folder;
    this.#postgres = postgres;
    const onStatement = (verb: string, seconds: number): void =>
      void this.statements.push({ verb, ms: seconds * 1_000 });
    this.database = new Database({ logger, onStatement }, { url: postgres.url });
    const limits = { perAgent: 10_000_000, total: 100_000_000 };
    this.#bounds = new QueueBounds({ sql: this.database.durable, clock, background: this.#background, logger }, limits);
    this.store = createPostgresStore(this.database, this.#bounds);
    this.sql = new Client({ connectionString: postgres.url, options: "-c synchronous_commit=off" });
  }

  /** `parameters` of PostgreSQL, over the product's own. */
  static async create(parameters: Readonly<Record<string, string>> = {}): Promise<StoreSite> {
    const folder = await mkdtemp(join(tmpdir(), "holdfast-store-"));
    const postgres = new EmbeddedPostgres({ clock, random, logger }, { dataDirectory: folder, parameters });
    await postgres.start();
    const site = new StoreSite(folder, postgres);
    try {
      await site.database.start();
      await site.sql.connect();
      await migrate(site.database);
      await buildIndexes(site.database);
      await createCluster(site.database.durable, {
        id: newId(ids, clusterIdSchema),
        name: "bench",
        keyCheck: Buffer.from("bench"),
      });
      const { node, database } = site;
      const bootId = newId(ids, bootIdSchema);
      await joinNode(database.durable, { id: node, name: "node-a", bootId, version: "0.0.0", addresses: ["node-a:1"] });
      await site.#bounds.start();
    } catch (cause) {
      await site.end();
      throw cause;
    }
    return site;
  }

  async end(): Promise<void> {
    await this.#bounds.stop();
    await this.#background.settle();
    await this.store.settle();
    await this.sql.end();
    await this.database.stop();
    await this.#postgres.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** The superuser's. */
  get adminUrl(): string {
    return this.#postgres.adminUrl;
  }

  /** Enrolled; greeted as well when `online`, so that a node may claim for them. */
  async agents(count: number, options: { readonly named: string; readonly online: "yes" | "no" }): Promise<RowAgent[]> {
    const made = Array.from({ length: count }, (_, index) => ({
      id: newId(ids, agentIdSchema),
      name: `${options.named}-${index}`,
      bootId: newId(ids, bootIdSchema),
      journalId: newId(ids, journalIdSchema),
    }));
    await this.database.transaction(async (sql) => {
      for (const { id, name } of made) await insertAgent(sql, { id, name, labels: {} });
    });
    if (options.online === "no") return made;
    for (const { id, bootId, journalId } of made) {
      const greeting = { bootCounter: 1, bootId, journalId, version: "0.0.0", capabilities: [], host: {} };
      await this.store.greet({ agent: id, ...greeting, intent: "session" });
    }
    return made;
  }

  /** One task of this agent, as a submission of its own. */
  async submit(agent: Pick<RowAgent, "id">): Promise<void> {
    const outcome = await this.store.submit({
      id: newId(ids, submissionIdSchema),
      principal: "bench",
      idempotencyKey: ids.next(),
      bodySha256: Buffer.alloc(32, 1),
      clientAddress: "192.0.2.7",
      node: this.node,
      offerWindowMs: 3_000,
      tasks: [
        {
          task: newId(ids, taskIdSchema),
          attempt: newId(ids, attemptIdSchema),
          agent: agent.id,
          lane: "work",
          spec,
          queueMs: 86_400_000,
          unreachableLimitMs: 86_400_000,
          offer: undefined,
        },
      ],
    });
    if (outcome.kind !== "stored") throw new Error(`a submission was not stored: ${outcome.kind}`);
  }

  /** One attempt of this agent's. */
  async claim({ id, bootId, journalId }: RowAgent): Promise<ClaimedAttempt> {
    const credits = [{ agent: id, bootId, journalId, lane: "work" as const, credit: 1, again: false }];
    const claimed = await this.store.claim({ node: this.node, credits, most: 100 });
    const [one, ...more] = claimed;
    if (one === undefined || more.length > 0) throw new Error(`${claimed.length} attempts were claimed instead of one`);
    return one;
  }

  /** What ends an attempt claimed here, short of a script that ran. */
  async drop({ attempt }: ClaimedAttempt): Promise<void> {
    const ended = "rank = 9, state = 'succeeded', finished_at = clock_timestamp()";
    await this.sql.query(`update attempt set ${ended} where id = $1`, [attempt]);
  }

  /** Milliseconds each statement of this name took since the list was emptied. */
  took(verb: string): number[] {
    return this.statements.filter((one) => one.verb === verb).map(({ ms }) => ms);
  }
}
