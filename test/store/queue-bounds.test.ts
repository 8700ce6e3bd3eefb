// How much may wait: the bound per agent and in all, a submission as a whole, repeats whatever the bound, and what the
// looks cost. Time is a test's own; the database is real.
import { afterEach, describe, expect, it } from "vitest";
import { Background } from "../../shared/background.ts";
import { silentLogger } from "../../shared/logger.ts";
import { cancelTasks } from "../../server/store/cancel-tasks.ts";
import type { GroupedStore } from "../../server/store/grouped-store.ts";
import { createPostgresStore } from "../../server/store/postgres-store.ts";
import { QueueBounds, type QueueLimits } from "../../server/store/queue-bounds.ts";
import type { Sql } from "../../server/store/connection.ts";
import { FakeClock } from "../fakes/clock.ts";
import { creditOf, first, ids, newSubmission, newTask, useLab, type TestAgent } from "./fixture.ts";

const lab = useLab();
const background = new Background({ logger: silentLogger });
const by = { principal: "tester", address: "" };
const started: QueueBounds[] = [];

interface Bounded {
  readonly store: GroupedStore;
  readonly bounds: QueueBounds;
  readonly clock: FakeClock;
  /** Names of the counting statements so far. */
  readonly looks: string[];
}

async function bounded(limits: Partial<QueueLimits> = {}): Promise<Bounded> {
  const clock = new FakeClock();
  const looks: string[] = [];
  const sql: Sql = {
    query: (statement, values) => {
      looks.push(statement.name);
      return lab.database.durable.query(statement, values);
    },
  };
  const bounds = new QueueBounds(
    { sql, clock, background, logger: silentLogger },
    { perAgent: 5, total: 1_000_000, ...limits },
  );
  started.push(bounds);
  await bounds.start();
  looks.length = 0;
  return { store: createPostgresStore(lab.database, bounds), bounds, clock, looks };
}

afterEach(async () => {
  await Promise.all(started.splice(0).map((bounds) => bounds.stop()));
  await background.settle();
  await lab.sql(`update attempt set rank = 9, state = 'cancelled' where rank < 9`);
});

const tasksOf = (agent: TestAgent, count: number) => Array.from({ length: count }, () => newTask(agent.id));
const queue = (store: GroupedStore, agent: TestAgent, count: number) =>
  store.submit(newSubmission(lab.node, tasksOf(agent, count)));
const kindOf = async (outcome: Promise<{ readonly kind: string }>) => (await outcome).kind;

describe("the bound per agent", () => {
  it("lets in what fits exactly and refuses one more, saying what waits, what was wanted and what may wait", async () => {
    const { store } = await bounded();
    const agent = await lab.agent();
    expect(await kindOf(queue(store, agent, 4))).toBe("stored");
    expect(await queue(store, agent, 2)).toEqual({
      kind: "full",
      refusal: { bound: "agent", agent: agent.id, queued: 4, wanted: 2, most: 5 },
    });
    expect(await kindOf(queue(store, agent, 1))).toBe("stored");
    expect(await kindOf(queue(store, agent, 1))).toBe("full");
  });

  it("refuses a submission for several agents as a whole and stores nothing of it", async () => {
    const { store } = await bounded();
    const [full, free] = [await lab.agent(), await lab.agent()];
    await queue(store, full, 5);
    const mixed = newSubmission(lab.node, [...tasksOf(free, 2), ...tasksOf(full, 1)]);
    expect(await store.submit(mixed)).toMatchObject({ kind: "full", refusal: { agent: full.id } });
    expect(await lab.sql(`select 1 from submission where id = $1`, [mixed.id])).toEqual([]);
    expect(await lab.sql(`select 1 from audit where target = $1`, [mixed.id])).toEqual([]);
    expect(await lab.sql(`select 1 from task where agent_id = $1`, [free.id])).toEqual([]);
    expect(await kindOf(queue(store, free, 5))).toBe("stored");
  });

  it("is kept by submissions that arrive in one batch: in order, and a refused one takes no room", async () => {
    const { store } = await bounded();
    const agent = await lab.agent();
    const outcomes = await Promise.all([3, 4, 2, 1].map((count) => kindOf(queue(store, agent, count))));
    expect(outcomes).toEqual(["stored", "full", "stored", "full"]);
    const [row] = await lab.sql(`select count(*)::int as n from attempt where agent_id = $1`, [agent.id]);
    expect(row).toEqual({ n: 5 });
  });

  it("never refuses the repeat of what was stored, nor hides that a key was used for something else", async () => {
    const { store } = await bounded();
    const agent = await lab.agent();
    const original = newSubmission(lab.node, tasksOf(agent, 5));
    await store.submit(original);
    const repeat = newSubmission(lab.node, tasksOf(agent, 5), original.idempotencyKey);
    expect(await store.submit(repeat)).toMatchObject({ kind: "repeated", id: original.id });
    expect(await store.submit({ ...repeat, bodySha256: Buffer.alloc(32, 2) })).toEqual({ kind: "mismatch" });
    expect(await kindOf(store.submit(newSubmission(lab.node, tasksOf(agent, 1))))).toBe("full");
  });

  it("gives the room of a repeat back, so that repeating does not fill a queue", async () => {
    const { store } = await bounded();
    const agent = await lab.agent();
    const original = newSubmission(lab.node, tasksOf(agent, 2));
    await store.submit(original);
    for (let count = 0; count < 3; count += 1)
      await store.submit(newSubmission(lab.node, tasksOf(agent, 2), original.idempotencyKey));
    expect(await kindOf(queue(store, agent, 3))).toBe("stored");
  });

  it("gives the room of a batch back that the database refused", async () => {
    const { store } = await bounded();
    const agent = await lab.agent();
    const [task] = tasksOf(agent, 1);
    if (task === undefined) throw new Error("no task");
    await store.submit(newSubmission(lab.node, [task]));
    for (let count = 0; count < 3; count += 1)
      await expect(store.submit(newSubmission(lab.node, [task, ...tasksOf(agent, 1)]))).rejects.toMatchObject({
        code: "internal",
      });
    expect(await kindOf(queue(store, agent, 4))).toBe("stored");
  });

  it("does not count what is offered at once, and asks the database nothing for it", async () => {
    const { store, looks } = await bounded({ perAgent: 1 });
    const agent = await lab.agent();
    await queue(store, agent, 1);
    looks.length = 0;
    const fast = { ...newTask(agent.id), offer: { bootId: agent.bootId, journalId: agent.journalId } };
    expect(await kindOf(store.submit(newSubmission(lab.node, [fast])))).toBe("stored");
    expect(looks).toEqual([]);
  });

  it("counts what should have been offered at once and was queued after all, until an offer comes true again", async () => {
    const { store, clock, looks } = await bounded({ perAgent: 3 });
    const agent = await lab.agent();
    const fast = () => ({ ...newTask(agent.id), offer: { bootId: agent.bootId, journalId: agent.journalId } });
    const submit = (count: number) =>
      kindOf(store.submit(newSubmission(lab.node, Array.from({ length: count }, fast))));
    await lab.sql(`update cluster set paused = true`);
    try {
      expect([await submit(2), await submit(1), await submit(1)]).toEqual(["stored", "stored", "full"]);
    } finally {
      await lab.sql(`update cluster set paused = false`);
    }
    await lab.sql(`update attempt set rank = 9, state = 'cancelled' where agent_id = $1`, [agent.id]);
    expect(await submit(1)).toBe("full");
    clock.advance(1_000);
    looks.length = 0;
    // Judged once more, and offered; from then on nothing is asked about it again.
    for (let count = 0; count < 3; count += 1) {
      expect(await submit(1)).toBe("stored");
      clock.advance(1_000);
    }
    expect(looks).toEqual(["count-queued-of-agents"]);
  });

  it("is looked up once a second at most, and sees by then what was taken and what others queued", async () => {
    const { store, clock, looks } = await bounded();
    const agent = await lab.agent();
    for (let count = 0; count < 5; count += 1) await queue(store, agent, 1);
    expect(looks).toEqual(["count-queued-of-agents"]);
    await store.claim({ node: lab.node.id, credits: [creditOf(agent, { credit: 3 })], most: 10 });
    expect(await kindOf(queue(store, agent, 1))).toBe("full");
    clock.advance(1_000);
    expect(await kindOf(queue(store, agent, 2))).toBe("stored");
    expect(looks).toHaveLength(2);
    await lab.queue(agent, { count: 1 });
    clock.advance(1_000);
    expect(await queue(store, agent, 1)).toMatchObject({ kind: "full", refusal: { queued: 5 } });
  });
});

describe("the bound in all", () => {
  const agents = () => Promise.all(Array.from({ length: 3 }, () => lab.agent()));

  it("counts what waits for any agent, and what this node adds and offers between two counts", async () => {
    await lab.queue(await lab.agent(), { count: 2 });
    const { store, bounds } = await bounded({ total: 6 });
    expect(bounds.total).toBe(2);
    const [one, two, three] = await agents();
    if (one === undefined || two === undefined || three === undefined) throw new Error("no agents");
    expect(await kindOf(queue(store, one, 3))).toBe("stored");
    expect(await store.submit(newSubmission(lab.node, [...tasksOf(two, 1), ...tasksOf(three, 1)]))).toEqual({
      kind: "full",
      refusal: { bound: "total", agent: undefined, queued: 5, wanted: 2, most: 6 },
    });
    expect(await kindOf(queue(store, two, 1))).toBe("stored");
    expect(await kindOf(queue(store, three, 1))).toBe("full");
    await store.claim({ node: lab.node.id, credits: [creditOf(one, { credit: 2 })], most: 10 });
    expect(bounds.total).toBe(4);
    expect(await kindOf(queue(store, three, 2))).toBe("stored");
  });

  it("is counted again after 5 s, and then holds what other nodes and cancels changed", async () => {
    const { bounds, clock, looks } = await bounded({ total: 6 });
    const agent = await lab.agent();
    const tasks = await lab.queue(agent, { count: 4 });
    await cancelTasks(lab.database.durable, [first(tasks).task], by);
    clock.advance(4_999);
    expect([bounds.total, looks]).toEqual([0, []]);
    clock.advance(1);
    await background.settle();
    expect([bounds.total, looks]).toEqual([3, ["count-queued"]]);
  });

  it("lets through what is offered at once however much waits", async () => {
    await lab.queue(await lab.agent(), { count: 1 });
    const { store, bounds } = await bounded({ total: 1 });
    const [unlucky, agent] = [await lab.agent(), await lab.agent()];
    const submit = ({ id, bootId, journalId }: TestAgent) =>
      kindOf(store.submit(newSubmission(lab.node, [{ ...newTask(id), offer: { bootId, journalId } }])));
    await lab.sql(`update cluster set paused = true`);
    await submit(unlucky);
    await lab.sql(`update cluster set paused = false`);
    expect(bounds.total).toBe(2);
    expect(await submit(agent)).toBe("stored");
    expect(await kindOf(queue(store, agent, 1))).toBe("full");
  });
});

describe("the looks", () => {
  /** Plan of a statement as the node's connections make it, with what it read. */
  async function planOf(text: string, values: readonly unknown[]): Promise<string> {
    const rows = await lab.sql(`explain (analyze, costs off, timing off, summary off) ${text}`, values);
    return rows.map((row) => String(row["QUERY PLAN"])).join("\n");
  }

  it("read an agent's own queue by its index and stop at the limit, whatever waits for others", async () => {
    const [agent, other] = [await lab.agent(), await lab.agent()];
    await lab.sql(
      `insert into attempt (id, task_id, agent_id, lane)
       select gen_random_uuid(), gen_random_uuid(), case when n <= 50 then $1::uuid else $2::uuid end, 'work' from generate_series(1, 5000) n`,
      [agent.id, other.id],
    );
    await lab.sql("analyze attempt");
    const texts: string[] = [];
    const sql: Sql = {
      query: async (statement, values) => {
        texts.push(await planOf(statement.text, values));
        return lab.database.durable.query(statement, values);
      },
    };
    const clock = new FakeClock();
    const bounds = new QueueBounds({ sql, clock, background, logger: silentLogger }, { perAgent: 20, total: 100 });
    started.push(bounds);
    await bounds.start();
    expect(bounds.total).toBe(100);
    expect(await bounds.admit([newSubmission(lab.node, [newTask(agent.id)], ids.next())])).toHaveProperty("size", 1);
    const [total, ofAgent] = texts;
    expect(ofAgent).toMatch(/Index (?:Only )?Scan using attempt_\w+ on attempt a \(actual rows=20(?:\.00)? /);
    expect(ofAgent).toMatch(/Index Cond: \(agent_id = w\.agent_id\)/);
    expect(total).toMatch(/Index (?:Only )?Scan using attempt_\w+ on attempt \(actual rows=100(?:\.00)? /);
    expect(texts.join("\n")).not.toContain("Seq Scan");
  });
});
