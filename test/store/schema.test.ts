// The schema's own life: migrated once however many nodes start, never by an older server; daily log partitions.
import { readdir } from "node:fs/promises";
import { afterEach, describe, expect, it } from "vitest";
import { inject } from "vitest";
import { Database } from "../../server/store/connection.ts";
import { migrate } from "../../server/store/migrate.ts";
import { ensurePartitions } from "../../server/store/partitions.ts";
import { hostsOf } from "../../server/store/database-url.ts";
import { pingDatabase } from "../../server/store/ping.ts";
import { systemClock } from "../../shared/clock.ts";
import { silentLogger } from "../../shared/logger.ts";
import { createDatabase, type TestDatabase } from "../harness/postgres.ts";
import { useLab } from "./fixture.ts";

const lab = useLab();
const opened: (Database | TestDatabase)[] = [];

async function emptyDatabase(connections: number): Promise<Database[]> {
  const test = await createDatabase(inject("databaseUrl"), "empty");
  const databases = Array.from(
    { length: connections },
    () => new Database({ logger: silentLogger }, { url: test.url, poolSize: 2 }),
  );
  opened.push(...databases, test);
  await Promise.all(databases.map((database) => database.start()));
  return databases;
}

afterEach(async () => {
  for (const one of opened.splice(0)) await ("stop" in one ? one.stop() : one.drop());
});

const versions = async (database: Database | undefined) =>
  await database?.durable.query({ name: "", text: "select version from schema_version order by 1" }, []);

const migrationFiles = async (): Promise<number> =>
  (await readdir(new URL("../../server/store/migrations/", import.meta.url))).length;

describe("migrate", () => {
  it("brings an empty database to the newest version, and a second time changes nothing", async () => {
    const [database] = await emptyDatabase(1);
    if (database === undefined) throw new Error("no database");
    const version = await migrate(database);
    const applied = await versions(database);
    expect(applied).toHaveLength(await migrationFiles());
    expect(applied?.at(-1)).toEqual({ version });
    expect(await migrate(database)).toBe(version);
    expect(await versions(database)).toEqual(applied);
  });

  it("is done once by four nodes that start at the same time", async () => {
    const databases = await emptyDatabase(4);
    const reached = await Promise.all(databases.map(migrate));
    expect(new Set(reached).size).toBe(1);
    expect(await versions(databases[0])).toHaveLength(await migrationFiles());
  });

  it("waits for a migration under way for longer than row locks are waited for", async () => {
    const [mine, theirs] = await emptyDatabase(2);
    if (mine === undefined || theirs === undefined) throw new Error("no database");
    const slow = theirs.transaction(async (sql) => {
      await sql.query({ name: "", text: "select pg_advisory_xact_lock(7305511902004)" }, []);
      // Longer than the lock timeout of two seconds, which is what is tested.
      await sql.query({ name: "", text: "select pg_sleep(2.5)" }, []);
    });
    await expect(migrate(mine)).resolves.toBeGreaterThan(0);
    await slow;
  });

  it("refuses a schema newer than this server knows, and leaves it alone", async () => {
    const [database] = await emptyDatabase(1);
    if (database === undefined) throw new Error("no database");
    await migrate(database);
    await database.durable.query(
      { name: "", text: "insert into schema_version (version, file) values (9999, 'from the future')" },
      [],
    );
    await expect(migrate(database)).rejects.toMatchObject({ code: "database.schema" });
    expect(await versions(database)).toContainEqual({ version: 9999 });
  });
});

describe("log partitions", () => {
  const partitions = async () =>
    (
      await lab.sql(
        `select relname from pg_class c join pg_inherits i on i.inhrelid = c.oid where i.inhparent = 'log_chunk'::regclass order by 1`,
      )
    ).map((row) => String(row["relname"]));
  const at = (isoDay: string) => ({ ...systemClock, wallMs: () => Date.parse(`${isoDay}T15:00:00Z`) });
  const idAt = (isoDay: string) =>
    `${Date.parse(`${isoDay}T15:00:00Z`)
      .toString(16)
      .padStart(12, "0")
      .replace(/^(.{8})/, "$1-")}-7000-8000-000000000000`;
  const store = (isoDay: string) =>
    lab.sql(`insert into log_chunk values ($1, 0, 0, 1, 'x') returning tableoid::regclass::text as part`, [
      idAt(isoDay),
    ]);

  it("are made for today and three days ahead, once, by nodes side by side", async () => {
    const other = await lab.connect();
    await Promise.all([ensurePartitions(lab.database, at("2031-03-01")), ensurePartitions(other, at("2031-03-01"))]);
    await ensurePartitions(lab.database, at("2031-03-02"));
    expect(await partitions()).toEqual(
      expect.arrayContaining(["log_chunk_20310301", "log_chunk_20310304", "log_chunk_20310305", "log_chunk_other"]),
    );
    expect(await store("2031-03-03")).toEqual([{ part: "log_chunk_20310303" }]);
  });

  it("leave a day alone whose rows already went to the default partition", async () => {
    expect(await store("2032-05-05")).toEqual([{ part: "log_chunk_other" }]);
    await ensurePartitions(lab.database, at("2032-05-04"));
    const made = await partitions();
    expect(made).toContain("log_chunk_20320504");
    expect(made).not.toContain("log_chunk_20320505");
    expect(await lab.sql(`select 1 from log_chunk where attempt_id = $1`, [idAt("2032-05-05")])).toHaveLength(1);
  });
});

describe("a database", () => {
  it("commits relaxed writes without waiting for the disk, durable ones with", async () => {
    const show = { name: "", text: "select setting, source from pg_settings where name = 'synchronous_commit'" };
    expect(await lab.database.relaxed.query(show, [])).toMatchObject([{ setting: "off", source: "client" }]);
    const [durable] = await lab.database.durable.query(show, []);
    expect(durable).not.toMatchObject({ source: "client" });
  });

  it("rolls a transaction back whose act throws", async () => {
    const failure = new Error("stop");
    await expect(
      lab.database.transaction(async (sql) => {
        await sql.query({ name: "", text: "create table never (a int)" }, []);
        throw failure;
      }),
    ).rejects.toBe(failure);
    expect(await lab.sql(`select to_regclass('never')::text as found`)).toEqual([{ found: null }]);
  });

  it("finds its connections again after the server ended them all", async () => {
    await lab.sql("select 1");
    const other = await lab.connect();
    await other.durable.query(
      {
        name: "",
        text: "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
      },
      [],
    );
    await expect.poll(() => pingDatabase(lab.database.durable), { timeout: 10_000 }).toBe("reachable");
  });

  it("says which hosts it tried when none answers", async () => {
    const gone = new Database({ logger: silentLogger }, { url: "postgres://u:secret@127.0.0.1:1,127.0.0.1:2/none" });
    const failure = await gone.start().then(
      () => undefined,
      (cause: unknown) => cause,
    );
    expect(failure).toMatchObject({ code: "database.unavailable" });
    expect(String(failure)).toContain("127.0.0.1:1: ");
    expect(String(failure)).toContain("127.0.0.1:2: ");
    expect(String(failure)).not.toContain("secret");
  });

  it("splits a URL of several hosts into one URL per host, and refuses another form", () => {
    expect(hostsOf("postgres://u:p@a:1,b/db?x=1")).toEqual([
      { url: "postgres://u:p@a:1/db?x=1", shown: "a:1" },
      { url: "postgres://u:p@b/db?x=1", shown: "b" },
    ]);
    expect(() => hostsOf("mysql://a/b")).toThrow(/has not the form/);
  });
});
