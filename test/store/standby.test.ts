// Two real PostgreSQL servers, one of them a standby: a node finds the primary wherever it is in the list.
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Database } from "../../server/store/connection.ts";
import { clusterPathIn } from "../../server/store/embedded-cluster.ts";
import { EmbeddedPostgres } from "../../server/store/embedded.ts";
import { systemClock } from "../../shared/clock.ts";
import { silentLogger } from "../../shared/logger.ts";
import { SystemRandom } from "../../shared/random.ts";

const deps = { clock: systemClock, random: new SystemRandom(), logger: silentLogger };
let folder: string;
let primary: EmbeddedPostgres;
let standby: EmbeddedPostgres;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-standby-"));
  const [first, second] = [join(folder, "a"), join(folder, "b")];
  const seed = new EmbeddedPostgres(deps, { dataDirectory: first });
  await seed.start();
  await seed.stop();
  // With owners: PostgreSQL runs as an ordinary user when the tests run as root.
  execFileSync("cp", ["-a", first, second]);
  await writeFile(join(clusterPathIn(join(second, "postgres")), "standby.signal"), "");
  primary = new EmbeddedPostgres(deps, { dataDirectory: first });
  standby = new EmbeddedPostgres(deps, { dataDirectory: second });
  await primary.start();
  await standby.start();
});
afterAll(async () => {
  await standby.stop();
  await primary.stop();
  await rm(folder, { recursive: true, force: true });
});

it("writes on the primary though a standby is listed first", async () => {
  const [ours, theirs] = [new URL(primary.url), new URL(standby.url)];
  const url = primary.url.replace(ours.host, `${theirs.host},${ours.host}`);
  const database = new Database({ logger: silentLogger }, { url });
  await database.start();
  const answer = await database.durable.query(
    { name: "", text: "select pg_is_in_recovery() as standby, inet_server_port() as port" },
    [],
  );
  expect(answer).toEqual([{ standby: false, port: Number(ours.port) }]);
  await database.stop();
});

it("refuses to serve from a standby alone, and says that it is one", async () => {
  const database = new Database({ logger: silentLogger }, { url: standby.url });
  await expect(database.start()).rejects.toMatchObject({
    code: "database.unavailable",
    message: expect.stringContaining("standby in recovery"),
  });
});
