// Nodes without hints: behind PgBouncer in transaction mode, which delivers none and lends sessions to everybody, and with
// LISTEN cut off on the way. Everything works, slower; and what is promised durable stays durable.
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { afterEach, describe, expect, inject, test } from "vitest";
import { registerAgent } from "../../agent/register.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import { startNode } from "../../server/node.ts";
import { Database } from "../../server/store/connection.ts";
import { silentLogger, type Logger } from "../../shared/logger.ts";
import { hasProgram } from "../harness/daemon.ts";
import { startAgentOn } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import { startPooler, type Pooler } from "../harness/pooler.ts";
import { createDatabase } from "../harness/postgres.ts";
import { queryRows } from "../harness/query.ts";

const isMissing = !hasProgram("pgbouncer");
if (isMissing) process.stderr.write("\npgbouncer is not installed: sh scripts/install-test-tools.sh\n");
const isSkipped = isMissing && process.env["CI"] !== "true";
const deaf = /hints between nodes do not arrive/;

const ending: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).toReversed()) await end();
});

describe.skipIf(isSkipped)("behind PgBouncer in transaction mode", () => {
  for (const options of ["ignored", "refused"] as const) {
    test(`statements keep their settings in a session that others use, where startup options are ${options}`, async () => {
      const { pooler, url } = await pooled({ sessions: 1, options });
      // What an operator may have chosen, and what the others of these tests' databases are not set to.
      await queryRows(url, `alter database ${new URL(url).pathname.slice(1)} set synchronous_commit = remote_write`);
      const stranger = new Client({ connectionString: pooler.through(url) });
      await stranger.connect();
      ending.push(() => stranger.end());
      // The one session there is; another client of the pooler may leave anything in it.
      const left = { synchronous_commit: "off", statement_timeout: "0", search_path: "nowhere", enable_seqscan: "on" };
      for (const [name, value] of Object.entries(left)) await stranger.query(`set ${name} = '${value}'`);
      const database = await databaseOn(pooler.through(url));

      const own = { statement_timeout: "10s", search_path: '"$user", public', enable_seqscan: "off" };
      expect(await settingsOf(database.durable)).toEqual({ ...own, synchronous_commit: "remote_write" });
      expect(await settingsOf(database.relaxed)).toEqual({ ...own, synchronous_commit: "off" });
      expect(await database.transaction(settingsOf)).toEqual({ ...own, synchronous_commit: "remote_write" });
      // Nor do ours stay behind.
      const [row] = (await stranger.query<object>(readSettings)).rows;
      expect(row).toEqual(left);
    });
  }

  test("one statement's time limit holds, and the session is usable after it", async () => {
    const { pooler, url } = await pooled({ sessions: 1, options: "ignored" });
    const database = await databaseOn(pooler.through(url), 300);
    await expect(database.durable.query({ name: "slow", text: "select pg_sleep(20)" }, [])).rejects.toMatchObject({
      code: "database.conflict",
    });
    expect(await database.durable.query({ name: "next", text: "select 1 as one" }, [])).toEqual([{ one: 1 }]);
  });

  test("one name is used in many sessions", async () => {
    const { pooler, url } = await pooled({ sessions: 3, options: "ignored" });
    const [one, other] = [await databaseOn(pooler.through(url)), await databaseOn(pooler.through(url))];
    const ask = (database: Database, value: number) =>
      database.relaxed.query({ name: "same", text: "select $1::int as value" }, [value]);
    const asked = Array.from({ length: 200 }, (_, value) => ask(value % 2 === 0 ? one : other, value));
    expect(await Promise.all(asked)).toEqual(asked.map((_, value) => [{ value }]));
  });

  for (const options of ["ignored", "refused"] as const) {
    test(`a pooler that comes between later is noticed, where startup options are ${options}`, async () => {
      const { pooler, url } = await pooled({ sessions: 1, options });
      const way = await wayTo(url, "passes");
      const database = await databaseOn(way.url);
      const ask = (value: number) => database.durable.query({ name: "same", text: "select $1::int as value" }, [value]);
      expect(await ask(1)).toEqual([{ value: 1 }]);
      // Somebody has prepared our names in the pooler's session already, as a node with another version might.
      const other = new Client({ connectionString: pooler.through(url) });
      await other.connect();
      ending.push(() => other.end());
      await other.query({ name: "same", text: "select 0 as value, $1::int as other", values: [0] });
      way.lead(Number(new URL(pooler.through(url)).port));
      await eventually("statements are answered through the pooler", async () => {
        const rows = await ask(2);
        return { done: JSON.stringify(rows) === JSON.stringify([{ value: 2 }]), state: rows };
      });
      expect(await settingsOf(database.durable)).toMatchObject({ statement_timeout: "10s", enable_seqscan: "off" });
    });
  }

  test("two nodes do everything, and say once each that hints do not arrive", async () => {
    const { pooler, url } = await pooled({ sessions: 20, options: "refused" });
    const site = await startSite(pooler.through(url));
    await doEverything(site);
    for (const said of [site.first.said, site.second.said]) {
      expect(said.filter((line) => deaf.test(line))).toHaveLength(1);
      expect(said.filter((line) => /through a connection pooler/.test(line))).toHaveLength(1);
    }
  });

  async function pooled(plan: { sessions: number; options: "ignored" | "refused" }): Promise<{
    pooler: Pooler;
    url: string;
  }> {
    if (isMissing) throw new Error("pgbouncer is missing: sh scripts/install-test-tools.sh");
    const database = await createDatabase(inject("databaseUrl"));
    ending.push(() => database.drop());
    const pooler = await startPooler({ databaseUrl: database.url, ...plan });
    ending.push(() => pooler.daemon.stop());
    return { pooler, url: database.url };
  }
});

test("two nodes do everything while no LISTEN passes", async () => {
  const database = await createDatabase(inject("databaseUrl"));
  ending.push(() => database.drop());
  const way = await wayTo(database.url, "cut");
  const site = await startSite(way.url);
  await doEverything(site);
  expect(way.cut()).toBeGreaterThan(2);
  expect(site.first.said.some((line) => /no connection for hints/.test(line))).toBe(true);
});

test("a node whose hints arrive says nothing", async () => {
  const database = await createDatabase(inject("databaseUrl"));
  ending.push(() => database.drop());
  const site = await startSite(database.url);
  await doEverything(site);
  expect([...site.first.said, ...site.second.said].filter((line) => deaf.test(line) || /pooler/.test(line))).toEqual(
    [],
  );
});

const readSettings = `select current_setting('synchronous_commit') as synchronous_commit, current_setting('statement_timeout')
  as statement_timeout, current_setting('search_path') as search_path, current_setting('enable_seqscan') as enable_seqscan`;

async function settingsOf(sql: Database["durable"]): Promise<unknown> {
  const [row] = await sql.query({ name: "settings", text: readSettings }, []);
  return row;
}

async function databaseOn(url: string, statementTimeoutMs = 10_000): Promise<Database> {
  const database = new Database({ logger: silentLogger }, { url, statementTimeoutMs });
  await database.start();
  ending.push(() => database.stop());
  return database;
}

interface SiteNode {
  readonly client: Holdfast;
  readonly url: string;
  /** Warnings. */
  readonly said: readonly string[];
}

interface Site {
  readonly folder: string;
  /** Has the agents' sessions. */
  readonly first: SiteNode;
  /** Advertises what no agent can reach: whatever it is asked for has to come about through the first one. */
  readonly second: SiteNode;
}

async function startSite(databaseUrl: string): Promise<Site> {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-pooler-"));
  ending.push(() => rm(folder, { recursive: true, force: true }));
  const loopback = { host: "127.0.0.1", port: 0 };
  const start = async (name: string, own: object): Promise<SiteNode> => {
    const said: string[] = [];
    const logger: Logger = { ...silentLogger, warn: (_, message) => void said.push(message), child: () => logger };
    const node = await startNode(
      { logger },
      {
        dataDirectory: await mkdtemp(join(folder, `${name}-`)),
        databaseUrl,
        masterKeyFile: join(folder, "master.key"),
        name,
        version: "0.0.0-test",
        apiListen: loopback,
        agentListen: loopback,
        ...own,
      },
    );
    ending.push(() => node.stop());
    const url = `http://127.0.0.1:${node.apiAddress.port}`;
    return { url, said, client: new Holdfast({ url, apiKey: await adminKey(folder), retryForMs: 2_000 }) };
  };
  const first = await start("node-a", { dataDirectory: folder, masterKeyFile: undefined });
  return { folder, first, second: await start("node-b", { advertise: ["127.0.0.1:9"] }) };
}

async function adminKey(folder: string): Promise<string> {
  return (await readFile(join(folder, "admin-api-key"), "utf8")).trim();
}

/** Enrolment, a followed script, a burst, a cancel and a revocation: asked of a node that has no session. */
async function doEverything({ folder, first, second: { client } }: Site): Promise<void> {
  const dataPath = join(folder, "agents", "web-1");
  const { token } = await client.tokens.create({});
  await registerAgent({ server: first.url, token, name: "web-1", dataPath });
  const agent = await startAgentOn(dataPath);
  ending.push(() => agent.stop());
  const stateAt = async (): Promise<string | undefined> =>
    (await client.agents.show("web-1")).nodes.find(({ name }) => name === "node-a")?.state;
  await eventually("node-a has a session", async () => {
    const state = await stateAt();
    return { done: state === "connected", state };
  });

  const flag = join(folder, "go-on");
  const followed = await client.run({
    on: "web-1",
    script: `echo one; until [ -e '${flag}' ] || [ ! -d '${folder}' ]; do sleep 0.05; done; echo two`,
  });
  const seen: string[] = [];
  for await (const { text } of followed.log()) {
    seen.push(text);
    await writeFile(flag, "");
  }
  expect(seen).toEqual(["one", "two"]);

  const burst = await Promise.all(Array.from({ length: 40 }, () => client.run({ on: "web-1", script: "exit 0" })));
  for (const { tasks } of burst) await reaches(client, tasks[0]?.id ?? "", "succeeded");

  const long = await client.run({ on: "web-1", script: "echo up; exec sleep 600", graceMs: 500 });
  const id = long.tasks[0]?.id ?? "";
  await reaches(client, id, "running");
  await client.tasks.cancel(id);
  await reaches(client, id, "cancelled");

  await client.agents.revoke("web-1");
  await eventually("node-a has closed the session of an agent that was revoked elsewhere", async () => {
    const state = await stateAt();
    return { done: state !== "connected", state };
  });
}

async function reaches(client: Holdfast, task: string, state: string): Promise<void> {
  await eventually(`task ${task} is ${state}`, async () => {
    const view = await client.tasks.show(task);
    return { done: view.state === state, state: view };
  });
}

interface Way {
  readonly url: string;
  /** Connections broken because LISTEN was said on them. */
  readonly cut: () => number;
  /** Breaks what passes and leads to this port from now on. */
  readonly lead: (port: number) => void;
}

/** A way to PostgreSQL on which LISTEN breaks the connection or not, and which may lead elsewhere later. */
async function wayTo(databaseUrl: string, listening: "cut" | "passes"): Promise<Way> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let port = Number(target.port);
  let cut = 0;
  const breakAll = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const server = createServer((near) => {
    const far = connect(port, target.hostname);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.on("data", (bytes: Buffer) => {
      if (listening === "cut" && bytes.includes("listen holdfast")) {
        cut += 1;
        near.destroy();
      } else far.write(bytes);
    });
    far.on("data", (bytes: Buffer) => near.write(bytes));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ending.push(async () => {
    breakAll();
    server.close();
    await once(server, "close");
  });
  const url = new URL(databaseUrl);
  const address = server.address();
  url.port = String(typeof address === "object" && address !== null ? address.port : 0);
  return {
    url: url.href,
    cut: () => cut,
    lead(to) {
      port = to;
      breakAll();
    },
  };
}
