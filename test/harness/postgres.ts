// A throw-away real PostgreSQL for tests: the product's own embedded one in a temporary directory, and a database of
// its own per test file. As vitest's globalSetup it shares one server for a whole run: `inject("databaseUrl")`.
// Invariant: after stop nothing is left, neither process nor file.
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { Client } from "pg";
import type { TestProject } from "vitest/node";
import { Database } from "../../server/store/connection.ts";
import { EmbeddedPostgres } from "../../server/store/embedded.ts";
import { migrate } from "../../server/store/migrate.ts";
import { systemClock, type Clock } from "../../shared/clock.ts";
import { silentLogger } from "../../shared/logger.ts";
import { SystemRandom } from "../../shared/random.ts";
import { scratchParent } from "./scratch.ts";

export interface TestPostgres {
  /** Logs in as the role `holdfast`, here with the right to create databases. */
  readonly url: string;
  /** Of the postmaster that runs now. */
  readonly pid: number;
  stop(): Promise<void>;
}

export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** Closes what is still connected, and removes the database. */
  drop(): Promise<void>;
}

export interface TestPostgresOptions {
  /** `fast` turns fsync off: for tests that do not look at durability. Default `on-disk`, as in production. */
  readonly durability?: "on-disk" | "fast";
  readonly parameters?: Readonly<Record<string, string>>;
  /** Whose timers look after the postmaster. */
  readonly clock?: Clock;
}

const migratedTemplate = "holdfast_migrated";
const fastParameters = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };

export async function startTestPostgres(options: TestPostgresOptions = {}): Promise<TestPostgres> {
  const directory = await mkdtemp(join(scratchParent(), "holdfast-postgres-"));
  const parameters = { ...(options.durability === "fast" ? fastParameters : {}), ...options.parameters };
  const server = new EmbeddedPostgres(
    { clock: options.clock ?? systemClock, random: new SystemRandom(), logger: silentLogger },
    { dataDirectory: directory, parameters },
  );
  try {
    await server.start();
    await query(server.adminUrl, "alter role holdfast createdb");
  } catch (cause) {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
    throw cause;
  }
  const { url } = server;
  return {
    url,
    get pid() {
      return server.pid;
    },
    stop: async () => {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/**
 * A database on a server that {@link startTestPostgres} started, by its URL (vitest: `inject("databaseUrl")`). Migrated:
 * copied from the run's template, which takes a tenth of migrating anew.
 */
export async function createDatabase(
  serverUrl: string,
  contents: "migrated" | "empty" = "migrated",
): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString("hex")}`;
  const template = contents === "empty" ? "template1" : migratedTemplate;
  await query(serverUrl, `create database ${name} template ${template} strategy file_copy`);
  const url = new URL(serverUrl);
  url.pathname = name;
  return { url: url.href, name, drop: () => dropDatabase(serverUrl, name) };
}

/**
 * Not `with (force)`: an autovacuum worker belongs to the superuser, whom this role may not end; a plain drop may, and
 * waits for it. The role's own connections are ended first.
 */
async function dropDatabase(serverUrl: string, name: string): Promise<void> {
  await query(
    serverUrl,
    `select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '${name}' and usename = current_user`,
  );
  await query(serverUrl, `drop database ${name}`);
}

async function createTemplate(serverUrl: string): Promise<void> {
  await query(serverUrl, `create database ${migratedTemplate} strategy file_copy`);
  const url = new URL(serverUrl);
  url.pathname = migratedTemplate;
  const database = new Database({ logger: silentLogger }, { url: url.href, poolSize: 1 });
  await database.start();
  await migrate(database);
  await database.stop();
}

async function query(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

declare module "vitest" {
  export interface ProvidedContext {
    databaseUrl: string;
  }
}

let server: TestPostgres | undefined;

export async function setup(project: TestProject): Promise<void> {
  server = await startTestPostgres({ durability: "fast" });
  await createTemplate(server.url);
  project.provide("databaseUrl", server.url);
}

export async function teardown(): Promise<void> {
  await server?.stop();
  server = undefined;
}
