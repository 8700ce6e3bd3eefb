// The database's connections: choosing the primary among hosts, and what one broken connection means for the others.
import { describe, expect, it } from "vitest";
import { hostsOf } from "../../server/store/database-url.ts";
import { Database } from "../../server/store/connection.ts";
import { silentLogger } from "../../shared/logger.ts";
import { useLab } from "./fixture.ts";

const lab = useLab();
const one = { name: "", text: "select pg_backend_pid() as pid" };

async function backendOf(database: Database): Promise<number> {
  const [row] = await database.durable.query(one, []);
  return typeof row === "object" && row !== null && "pid" in row && typeof row.pid === "number" ? row.pid : 0;
}

describe("a database of several hosts", () => {
  it("is named once per host, and a form without a host is refused", () => {
    expect(hostsOf("postgres://u:p@a:1,b:2/db?x=y")).toEqual([
      { url: "postgres://u:p@a:1/db?x=y", shown: "a:1" },
      { url: "postgres://u:p@b:2/db?x=y", shown: "b:2" },
    ]);
    expect(() => hostsOf("mysql://a/db")).toThrow(expect.objectContaining({ code: "config.invalid" }));
  });

  it("is used on the host that answers when the first does not", async () => {
    const { url } = lab;
    const hosts = new URL(url).host;
    const database = new Database({ logger: silentLogger }, { url: url.replace(hosts, `127.0.0.1:1,${hosts}`) });
    await database.start();
    expect(await backendOf(database)).toBeGreaterThan(0);
    await database.stop();
  });

  it("says which hosts it tried when none answers", async () => {
    const database = new Database({ logger: silentLogger }, { url: "postgres://u:p@127.0.0.1:1,127.0.0.1:2/db" });
    await expect(database.start()).rejects.toMatchObject({
      code: "database.unavailable",
      message: expect.stringMatching(/127\.0\.0\.1:1: .*127\.0\.0\.1:2: /),
    });
  });
});

describe("a broken connection", () => {
  it("in a transaction fails that transaction only, and not the process", async () => {
    const database = await lab.connect();
    const failing = database.transaction(async (sql) => {
      const [row] = await sql.query(one, []);
      await lab.sql("select pg_terminate_backend($1)", [(row as { pid: number }).pid]);
      // Goes to a connection that is being ended, and so never sleeps.
      await sql.query({ name: "", text: "select pg_sleep(5)" }, []);
    });
    await expect(failing).rejects.toMatchObject({ code: "database.unavailable" });
    expect(await backendOf(database)).toBeGreaterThan(0);
  });

  it("leaves forty callers with work done, not with pools that are replaced again and again", async () => {
    const warnings: string[] = [];
    const logger = { ...silentLogger, warn: (_fields: object, message: string) => void warnings.push(message) };
    const database = new Database({ logger }, { url: lab.url });
    await database.start();
    const outcomes = await Promise.all(
      Array.from({ length: 40 }, async (_unused, caller) => {
        let failures = 0;
        for (let turn = 0; turn < 20; turn += 1) {
          if (caller === 0 && turn === 3) await lab.sql("select pg_terminate_backend($1)", [await backendOf(database)]);
          await backendOf(database).catch(() => (failures += 1));
        }
        return failures;
      }),
    );
    expect(outcomes.reduce((sum, failures) => sum + failures, 0)).toBeLessThan(10);
    expect(warnings).toEqual([]);
    await database.stop();
  });
});
