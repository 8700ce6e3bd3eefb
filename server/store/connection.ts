// The only home of `pg`: two pools on the primary of one or several hosts. `durable` commits synchronously, `relaxed`
// may lose its last moments in a database crash and is used only where an agent's journal is the truth.
// Every failure leaves as an AppError; a connection that failed or turned read-only is dropped, never returned.
// Invariant: what a statement needs of its session (session-settings.ts) holds for it also behind a connection pooler.
import { Client, Pool, types, type PoolConfig } from "pg";
import { systemClock } from "../../shared/clock.ts";
import { AppError, describeError, errnoOf, type ErrorCode } from "../../shared/errors.ts";
import type { Logger } from "../../shared/logger.ts";
import type { Service } from "../../shared/service.ts";
import { reached } from "../../shared/steps.ts";
import { hostsOf } from "./database-url.ts";
import {
  judgeSession,
  openingOf,
  refusesOptions,
  startupOptions,
  type Durability,
  type SessionKind,
} from "./session-settings.ts";

export interface Statement {
  /** Prepared once per connection under this name. */
  readonly name: string;
  readonly text: string;
  /**
   * `each-time` plans it anew for the table as it is: a plan kept from an empty table reads whole indexes of a full one
   * until statistics are gathered. Worth its 1 to 2 ms where a batch is large. Default: prepared, planned once.
   */
  readonly plan?: "once" | "each-time";
}

export interface Sql {
  query(statement: Statement, values: readonly unknown[]): Promise<unknown[]>;
}

export interface DatabaseDeps {
  readonly logger: Logger;
  /** Told of each named statement outside transactions: verb and seconds, waiting for a connection included. */
  readonly onStatement?: (verb: string, seconds: number) => void;
}

export interface DatabaseOptions {
  /** `postgres://user:password@host:port[,host:port…]/database`. */
  readonly url: string;
  /** Connections of each pool. Default 6: commits are grouped, so few are needed. */
  readonly poolSize?: number;
  /** Server-side limit of one statement in milliseconds. Default 10,000. */
  readonly statementTimeoutMs?: number;
}

type State =
  | { readonly kind: "stopped" }
  | { readonly kind: "finding"; readonly found: Promise<Pools> }
  | { readonly kind: "connected"; readonly pools: Pools };

type Pools = Readonly<Record<Durability, Pool>> & {
  /** `pooled`: behind a pooler that keeps settings and prepared statements from us; every statement brings its own. */
  readonly session: SessionKind;
};

interface Found {
  readonly url: string;
  readonly session: SessionKind;
}

const int8 = 20;
const parsers = {
  getTypeParser: (oid: number, format?: "text" | "binary") =>
    oid === int8 ? Number : types.getTypeParser(oid, format === "binary" ? "text" : "text"),
};

export class Database implements Service {
  readonly #logger: Logger;
  readonly #onStatement: (verb: string, seconds: number) => void;
  readonly #options: Required<DatabaseOptions>;
  #state: State = { kind: "stopped" };
  readonly durable: Sql;
  readonly relaxed: Sql;

  constructor(deps: DatabaseDeps, options: DatabaseOptions) {
    this.#logger = deps.logger;
    this.#onStatement = deps.onStatement ?? (() => undefined);
    this.#options = { poolSize: 6, statementTimeoutMs: 10_000, ...options };
    this.durable = { query: (statement, values) => this.#query("durable", statement, values) };
    this.relaxed = { query: (statement, values) => this.#query("relaxed", statement, values) };
  }

  async start(): Promise<void> {
    await this.#connect();
  }

  async stop(): Promise<void> {
    const state = this.#state;
    this.#state = { kind: "stopped" };
    const pools = state.kind === "connected" ? state.pools : undefined;
    await Promise.all([pools?.durable.end(), pools?.relaxed.end()]);
  }

  /** Runs `act` in one transaction on the durable pool; rolls back when it throws. */
  async transaction<T>(act: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#transaction(await this.#connect(), "durable", act);
  }

  async #transaction<T>(pools: Pools, durability: Durability, act: (sql: Sql) => Promise<T>): Promise<T> {
    const client = await this.#guard(pools, () => pools[durability].connect());
    // The pool listens to idle connections only: one that breaks between two statements must not end the process.
    const onError = (cause: Error): void => this.#logger.debug({ err: cause }, "a connection broke in a transaction");
    client.on("error", onError);
    const release = (broken?: Error): void => {
      client.off("error", onError);
      client.release(broken);
    };
    const run = (text: string) => this.#guard(pools, () => client.query(text));
    try {
      await run(openingOf(pools.session, durability, this.#options.statementTimeoutMs));
      const answer = await act({
        query: async (statement, values) => {
          reached("asking", statement.name);
          const query = queryOf(statement, values, pools.session);
          return (await this.#guard(pools, () => client.query<object>(query))).rows;
        },
      });
      reached("asking", "commit");
      await run("commit");
      reached("answered", "commit");
      release();
      return answer;
    } catch (cause) {
      await client.query("rollback").then(
        () => release(),
        (failure: unknown) => release(failure instanceof Error ? failure : new Error("rollback failed")),
      );
      throw cause;
    }
  }

  /** A connection of its own, for LISTEN or for a statement that takes its time; the caller ends it. Never from a pool. */
  async dedicated({ limits }: { readonly limits: "usual" | "none" } = { limits: "usual" }): Promise<Client> {
    const pools = await this.#connect();
    const usual = clientConfig(pools.durable);
    const unlimited = {
      query_timeout: 0,
      options: usual.options?.replaceAll(/((?:statement|lock)_timeout)=\d+/g, "$1=0"),
    };
    const client = new Client(limits === "none" ? { ...usual, ...unlimited } : usual);
    client.on("error", (cause) => this.#logger.debug({ err: cause }, "a dedicated connection broke"));
    await this.#guard(pools, () => client.connect());
    return client;
  }

  async #query(pool: Durability, statement: Statement, values: readonly unknown[]): Promise<unknown[]> {
    const startMs = systemClock.monotonicMs();
    try {
      const pools = await this.#connect();
      // Three round trips instead of one, for settings that hold for this statement and leave nothing behind.
      if (pools.session === "pooled")
        return await this.#transaction(pools, pool, async (sql) => await sql.query(statement, values));
      reached("asking", statement.name);
      const query = queryOf(statement, values, pools.session);
      const { rows } = await this.#guard(pools, () => pools[pool].query<object>(query));
      reached("answered", statement.name);
      return rows;
    } finally {
      this.#onStatement(statement.name, (systemClock.monotonicMs() - startMs) / 1_000);
    }
  }

  async #guard<T>(pools: Pools, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (cause) {
      const error = databaseError(cause);
      if (isPrimaryLost(cause)) this.#drop(pools, error);
      throw error;
    }
  }

  /**
   * Forgets these pools, so that the next query looks for the primary again; queries in flight end by themselves. A late
   * failure of pools that were replaced already changes nothing, and one broken connection is the pool's own business.
   */
  #drop(pools: Pools, error: AppError): void {
    if (this.#state.kind !== "connected" || this.#state.pools !== pools) return;
    this.#logger.warn({ err: error }, "the database's primary is lost; looking for it again");
    this.#state = { kind: "stopped" };
    for (const pool of [pools.durable, pools.relaxed])
      pool.end().catch((cause: unknown) => this.#logger.debug({ err: cause }, "pool end failed"));
  }

  #connect(): Promise<Pools> {
    if (this.#state.kind === "connected") return Promise.resolve(this.#state.pools);
    if (this.#state.kind === "finding") return this.#state.found;
    const found = this.#find();
    this.#state = { kind: "finding", found };
    found.then(
      (pools) => {
        this.#state = { kind: "connected", pools };
      },
      () => {
        this.#state = { kind: "stopped" };
      },
    );
    return found;
  }

  /** Tries each host and takes the first that is not in recovery. */
  async #find(): Promise<Pools> {
    const seen: string[] = [];
    for (const host of hostsOf(this.#options.url)) {
      try {
        const session = await this.#probe(host.url, this.#startupOptions("durable"));
        if (session === "standby") seen.push(`${host.shown}: a standby in recovery`);
        else return this.#pools({ url: host.url, session });
      } catch (cause) {
        seen.push(`${host.shown}: ${describeError(cause)}`);
      }
    }
    throw new AppError("database.unavailable", `no writable PostgreSQL answered (${seen.join("; ")})`, {
      retryAfterSeconds: 2,
    });
  }

  async #probe(url: string, options: string | undefined): Promise<SessionKind | "standby"> {
    const probe = new Client({ connectionString: url, connectionTimeoutMillis: 3_000, query_timeout: 3_000, options });
    probe.on("error", () => undefined);
    try {
      await probe.connect();
      const answer: { rows: unknown[] } = await probe.query(judgeSession.text);
      return judgeSession.verdict(answer.rows);
    } catch (cause) {
      if (options === undefined || !refusesOptions(cause)) throw cause;
    } finally {
      await probe.end().catch(() => undefined);
    }
    return this.#probe(url, undefined);
  }

  #startupOptions(durability: Durability): string {
    return startupOptions(durability, this.#options.statementTimeoutMs);
  }

  #pools({ url, session }: Found): Pools {
    if (session === "pooled") {
      this.#logger.warn(
        {},
        "the database answers through a connection pooler that does not keep session settings: every statement brings its own, which is slower",
      );
    }
    const make = (durability: Durability): Pool => {
      const config: PoolConfig = {
        connectionString: url,
        max: this.#options.poolSize,
        connectionTimeoutMillis: 3_000,
        // The usual 10 s closes what the next look needs, and a new one costs a process there and a password derivation here.
        idleTimeoutMillis: 30_000,
        query_timeout: this.#options.statementTimeoutMs + 1_000,
        keepAlive: true,
        types: parsers,
        ...(session === "pooled" ? {} : { options: this.#startupOptions(durability) }),
      };
      const pool = new Pool(config);
      pool.on("error", (cause) => this.#logger.debug({ err: cause }, "an idle database connection broke"));
      return pool;
    };
    return { durable: make("durable"), relaxed: make("relaxed"), session };
  }
}

/** Behind a pooler the next statement may meet another session, which was told of no name. */
function queryOf({ name, text, plan }: Statement, values: readonly unknown[], session: SessionKind) {
  return plan === "each-time" || session === "pooled"
    ? { text, values: [...values] }
    : { name, text, values: [...values] };
}

function clientConfig(pool: Pool): PoolConfig {
  const { connectionString, connectionTimeoutMillis, query_timeout, keepAlive, options } = pool.options;
  return { connectionString, connectionTimeoutMillis, query_timeout, keepAlive, options };
}

/** What PostgreSQL and the network say, as our codes. SQLSTATE classes: PostgreSQL manual, appendix A. */
function databaseError(cause: unknown): AppError {
  if (cause instanceof AppError) return cause;
  return new AppError(codeOf(cause), `database: ${describeError(cause)}`, { cause, retryAfterSeconds: 2 });
}

/**
 * Nobody listens there any more, or what does is a standby now (25006) or not ready (57P03), or a pooler came between:
 * it refuses our options (08P01) or does not know, or knows twice, what we prepared (26000, 42P05).
 */
function isPrimaryLost(cause: unknown): boolean {
  const state = errnoOf(cause) ?? "";
  const gone = ["ECONNREFUSED", "ENOTFOUND", "EHOSTUNREACH", "ENETUNREACH", "EAI_AGAIN", "25006", "57P03"];
  const pooler = ["08P01", "26000", "42P05"];
  if (cause instanceof AggregateError) return cause.errors.some(isPrimaryLost);
  return gone.includes(state) || pooler.includes(state);
}

function codeOf(cause: unknown): ErrorCode {
  const state = errnoOf(cause);
  if (state === undefined)
    return describeError(cause).match(/timeout|terminated|ended|not queryable|closed|calling end/i)
      ? "database.unavailable"
      : "internal";
  if (state.startsWith("E") || /^(08|53|57P|25006)/.test(state)) return "database.unavailable";
  if (/^(40001|40P01|55P03|57014)/.test(state)) return "database.conflict";
  return "internal";
}
