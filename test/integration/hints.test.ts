// The connection for hints on a real database, through a network that drops everything without a word.
import { inject, expect, test } from "vitest";
import { Hints, type HintKind } from "../../server/cluster/hints.ts";
import { Database } from "../../server/store/connection.ts";
import { Background } from "../../shared/background.ts";
import { bootIdSchema } from "../../shared/ids.ts";
import { silentLogger as logger } from "../../shared/logger.ts";
import { FakeClock } from "../fakes/clock.ts";
import { eventually } from "../harness/eventually.ts";
import { FaultProxy } from "../harness/fault-proxy.ts";
import { createDatabase } from "../harness/postgres.ts";

const looks: readonly HintKind[] = ["work", "cancel", "trust", "nodes", "agents"];

test("a node that only listens hears again once its connection was cut without a word", async () => {
  const holder = await createDatabase(inject("databaseUrl"));
  const at = new URL(holder.url);
  await using proxy = await FaultProxy.start({ target: { host: at.hostname, port: Number(at.port) } });
  const far = new URL(holder.url);
  [far.hostname, far.port] = ["127.0.0.1", String(proxy.port)];
  const direct = new Database({ logger }, { url: holder.url });
  const proxied = new Database({ logger }, { url: far.href });
  await direct.start();
  await proxied.start();
  const clock = new FakeClock();
  const background = new Background({ logger });
  const heard: HintKind[] = [];
  let answers = 0;
  const dedicated = async () => (await proxied.dedicated()).on("drain", () => (answers += 1));
  const hints = new Hints(
    { database: { durable: direct.durable, dedicated }, clock, background, logger },
    { bootId: bootIdSchema.parse("00000000-0000-4000-8000-000000000001"), onHint: (kind) => heard.push(kind) },
  );
  const heardAll = (count: number) =>
    eventually(`${count} hints`, () => ({ done: heard.length === count, state: heard }));
  try {
    await hints.start();
    await heardAll(looks.length);
    await eventually("the listening is settled", () => ({ done: clock.timers === 1, state: clock.timers }));
    clock.advance(10_000);
    await eventually("the listening and a check are answered", () => ({ done: answers === 2, state: answers }));
    clock.advance(5_000);
    expect(heard).toHaveLength(looks.length);
    proxy.change({ toTarget: { flow: "black-hole" }, toClient: { flow: "black-hole" } });
    clock.advance(5_000);
    clock.advance(5_000);
    // What was cut is closed by now; the next connection finds a network that works.
    proxy.change({});
    await heardAll(2 * looks.length);
    expect(heard).toEqual([...looks, ...looks]);
    const word = JSON.stringify({ from: "another node", kind: "trust" });
    await direct.durable.query({ name: "say", text: "select pg_notify('holdfast', $1)" }, [word]);
    await heardAll(2 * looks.length + 1);
  } finally {
    await hints.stop();
    await background.settle();
    await Promise.all([direct.stop(), proxied.stop()]);
    await holder.drop();
  }
});
