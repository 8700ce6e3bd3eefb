// Claiming: in order, within credit, for the right boot and journal, each attempt by one node at a time.
import { describe, expect, it } from "vitest";
import { bootIdSchema, journalIdSchema, newId } from "../../shared/ids.ts";
import { claimAttempts, claimBytes } from "../../server/store/claim-attempts.ts";
import { cancelTasks } from "../../server/store/cancel-tasks.ts";
import { creditOf, first, ids, useLab, type QueuedTask } from "./fixture.ts";

const lab = useLab();
const by = { principal: "tester", address: "" };
const attemptsOf = (items: readonly Pick<QueuedTask, "attempt">[]) => items.map((item) => item.attempt);
/** What a claim answered, in the order it was claimed in: the answer itself has none. */
const inQueueOrder = async (claimed: readonly Pick<QueuedTask, "attempt">[]) =>
  (await lab.sql(`select id from attempt where id = any($1) order by queue_no`, [attemptsOf(claimed)])).map(
    (row) => row["id"],
  );

describe("claim", () => {
  it("takes the oldest of an agent first, within its credit", async () => {
    const agent = await lab.agent();
    const queued = attemptsOf(await lab.queue(agent, { count: 5 }));
    const claimed = await lab.claim(agent, { credit: 2 });
    expect(await inQueueOrder(claimed)).toEqual(queued.slice(0, 2));
    expect(await inQueueOrder(await lab.claim(agent, { credit: 10 }))).toEqual(queued.slice(2));
    expect(await lab.claim(agent)).toEqual([]);
  });

  it("takes a lower band before an older attempt of a higher one", async () => {
    const agent = await lab.agent();
    const queued = attemptsOf(await lab.queue(agent, { count: 3 }));
    await lab.sql(`update attempt set band = 0 where id = $1`, [queued[2]]);
    expect(attemptsOf(await lab.claim(agent, { credit: 1 }))).toEqual([queued[2]]);
    expect(attemptsOf(await lab.claim(agent, { credit: 1 }))).toEqual([queued[0]]);
  });

  it("answers what an offer needs and binds the row to session and node", async () => {
    const agent = await lab.agent();
    const queued = await lab.queueOne(agent);
    const claimed = first(await lab.claim(agent));
    expect(claimed).toMatchObject({
      ...queued,
      attemptNumber: 1,
      offerNo: 1,
      lane: "work",
      journalId: agent.journalId,
    });
    const row = await lab.attempt(queued.attempt);
    expect(row).toMatchObject({
      rank: 1,
      state: "offered",
      journal_id: agent.journalId,
      offered_by: lab.node.id,
      offer_no: 1,
    });
  });

  it("keeps the lanes apart", async () => {
    const agent = await lab.agent();
    const work = await lab.queueOne(agent);
    const system = await lab.queueOne(agent, { lane: "system" });
    expect(attemptsOf(await lab.claim(agent, { lane: "system" }))).toEqual([system.attempt]);
    expect(attemptsOf(await lab.claim(agent, { lane: "work" }))).toEqual([work.attempt]);
  });

  it("serves both lanes and several agents in one call, no more than asked for altogether", async () => {
    const agents = [await lab.agent(), await lab.agent()];
    const oldest: unknown[] = [];
    for (const agent of agents) oldest.push(...attemptsOf(await lab.queue(agent, { count: 2 })));
    for (const agent of agents) await lab.queueOne(agent, { lane: "system" });
    const credits = agents.flatMap((agent) => [creditOf(agent), creditOf(agent, { lane: "system" })]);
    const claimed = await lab.store.claim({ node: lab.node.id, credits, most: 4 });
    expect(await inQueueOrder(claimed)).toEqual(oldest);
    expect(await lab.store.claim({ node: lab.node.id, credits, most: 4 })).toHaveLength(2);
  });

  describe("of large specs", () => {
    const bytes = 512 * 1024;
    const specOf = (script: string) => JSON.stringify({ kind: "script", script });
    const spec = specOf("x".repeat(bytes - specOf("").length));
    const perLane = claimBytes.lane / bytes;

    it("ends for a lane at the one that reaches the bound, and a small one of the other lane is not kept waiting", async () => {
      const agent = await lab.agent();
      const queued = attemptsOf(await lab.queue(agent, { count: perLane + 3, spec }));
      const system = await lab.queueOne(agent, { lane: "system" });
      const credits = [creditOf(agent, { credit: 100 }), creditOf(agent, { lane: "system" })];
      const claimed = await lab.store.claim({ node: lab.node.id, credits, most: 500 });
      expect(await inQueueOrder(claimed)).toEqual([...queued.slice(0, perLane), system.attempt]);
      expect(await inQueueOrder(await lab.claim(agent, { credit: 100 }))).toEqual(queued.slice(perLane));
    });

    it("brings one that is larger than the bound alone", async () => {
      const agent = await lab.agent();
      const large = specOf("x".repeat(claimBytes.all));
      const queued = attemptsOf([await lab.queueOne(agent, { spec: large }), await lab.queueOne(agent)]);
      expect(attemptsOf(await lab.claim(agent))).toEqual(queued.slice(0, 1));
      expect(attemptsOf(await lab.claim(agent))).toEqual(queued.slice(1));
    });

    it("ends for all agents together, the oldest first, and what a lane was not given counts for nothing", async () => {
      const agents = await Promise.all(Array.from({ length: 6 }, () => lab.agent()));
      const queued: unknown[][] = [];
      for (const agent of agents) queued.push(attemptsOf(await lab.queue(agent, { count: perLane + 1, spec })));
      const credits = agents.map((agent) => creditOf(agent, { credit: 100 }));
      const claim = () => lab.store.claim({ node: lab.node.id, credits, most: 500 });
      const full = claimBytes.all / claimBytes.lane;
      expect(await inQueueOrder(await claim())).toEqual(
        queued.slice(0, full).flatMap((attempts) => attempts.slice(0, perLane)),
      );
      const left = queued.flatMap((attempts, index) =>
        index < full ? attempts.slice(perLane) : attempts.slice(0, perLane),
      );
      expect(await inQueueOrder(await claim())).toEqual(left);
    });

    it("counts their bytes as they are, not as they are stored", async () => {
      const agent = await lab.agent();
      const [task] = await lab.queue(agent, { count: perLane + 1, spec: specOf("ä".repeat(bytes / 2)) });
      const [row] = await lab.sql(`select pg_column_size(spec) as stored from task where id = $1`, [task?.task]);
      expect(Number(row?.["stored"])).toBeLessThan(bytes / 10);
      expect(await lab.claim(agent, { credit: 100 })).toHaveLength(perLane);
    });

    it("locks no more than it takes: another node has what is beyond its bytes at the same time", async () => {
      const agents = await Promise.all(Array.from({ length: 5 }, () => lab.agent()));
      const queued: unknown[][] = [];
      for (const agent of agents) queued.push(attemptsOf(await lab.queue(agent, { count: perLane + 2, spec })));
      const credits = agents.map((agent) => creditOf(agent, { credit: 100 }));
      const other = await lab.connect();
      await other.transaction(async (sql) => {
        await claimAttempts(sql, { node: lab.node.id, credits, most: 500 });
        for (const [index, agent] of agents.entries()) {
          const left = queued[index]?.slice(index < claimBytes.all / claimBytes.lane ? perLane : 0) ?? [];
          expect(await inQueueOrder(await lab.claim(agent, { credit: 100 }))).toEqual(left.slice(0, perLane));
        }
      });
    });

    it("says by its bytes that there is more, though others hold some of what it may bring", async () => {
      const agents = await Promise.all(Array.from({ length: 5 }, () => lab.agent()));
      const queued: unknown[][] = [];
      for (const agent of agents) queued.push(attemptsOf(await lab.queue(agent, { count: perLane, spec })));
      const credits = agents.map((agent) => creditOf(agent, { credit: 100 }));
      const other = await lab.connect();
      await other.transaction(async (sql) => {
        const held = queued.slice(0, 2).flat();
        await sql.query({ name: "", text: "select from attempt where id = any($1) for update" }, [held]);
        const claimed = await lab.store.claim({ node: lab.node.id, credits, most: 500 });
        expect(await inQueueOrder(claimed)).toEqual(queued.slice(2).flat());
      });
    });

    it("passes over those that another transaction holds: they take no room", async () => {
      const agent = await lab.agent();
      const queued = attemptsOf(await lab.queue(agent, { count: perLane + 2, spec }));
      const other = await lab.connect();
      await other.transaction(async (sql) => {
        await sql.query({ name: "", text: "select from attempt where id = any($1) for update" }, [queued.slice(0, 2)]);
        expect(await inQueueOrder(await lab.claim(agent, { credit: 100 }))).toEqual(queued.slice(2));
      });
    });
  });

  it("claims nothing for another boot or another journal than the agent's own", async () => {
    const agent = await lab.agent();
    await lab.queueOne(agent);
    expect(await lab.claim({ ...agent, bootId: newId(ids, bootIdSchema) })).toEqual([]);
    expect(await lab.claim({ ...agent, journalId: newId(ids, journalIdSchema) })).toEqual([]);
    expect(await lab.claim(agent)).toHaveLength(1);
  });

  it.each(["revoked", "quarantined", "removed"])("claims nothing for an agent that is %s", async (status) => {
    const agent = await lab.agent();
    await lab.queueOne(agent);
    await lab.sql(`update agent set status = $2 where id = $1`, [agent.id, status]);
    expect(await lab.claim(agent)).toEqual([]);
  });

  it("claims nothing while the cluster is paused, and goes on afterwards", async () => {
    const agent = await lab.agent();
    await lab.queueOne(agent);
    await lab.sql(`update cluster set paused = true`);
    const claimed = await lab.claim(agent);
    await lab.sql(`update cluster set paused = false`);
    expect(claimed).toEqual([]);
    expect(await lab.claim(agent)).toHaveLength(1);
  });

  it("never claims another agent's attempts", async () => {
    const [mine, theirs] = [await lab.agent(), await lab.agent()];
    await lab.queueOne(theirs);
    expect(await lab.claim(mine)).toEqual([]);
  });
});

describe("an offer nobody answers", () => {
  it("is not offered again within its window", async () => {
    const agent = await lab.agent();
    await lab.offered(agent);
    const other = await lab.otherNode("node-window");
    expect(await lab.claim(agent, { node: other.id })).toEqual([]);
  });

  it("is offered again by any node after its window, to the same journal, under the next offer number", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    await lab.expireOffer(attempt);
    const other = await lab.otherNode("node-again");
    expect(await lab.claim(agent, { node: other.id })).toMatchObject([{ attempt, offerNo: 2 }]);
    expect(await lab.attempt(attempt)).toMatchObject({ offered_by: other.id, rank: 1, journal_id: agent.journalId });
  });

  it("is never offered to another journal, not even after its window", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    await lab.expireOffer(attempt);
    const other = newId(ids, journalIdSchema);
    // As if another journal had greeted a moment ago and the row had escaped that greeting.
    await lab.sql(`update agent set journal_id = $2 where id = $1`, [agent.id, other]);
    expect(await lab.claim({ ...agent, journalId: other })).toEqual([]);
  });

  it("comes before queued work", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    await lab.queueOne(agent);
    await lab.expireOffer(attempt);
    expect(attemptsOf(await lab.claim(agent, { credit: 1 }))).toEqual([attempt]);
  });

  it("has a window that doubles from 3 s to 30 s", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.queueOne(agent);
    const windows: number[] = [];
    for (let offer = 0; offer < 6; offer += 1) {
      await lab.claim(agent);
      const row = first(
        await lab.sql(
          `select round(extract(epoch from offer_until - clock_timestamp()))::int as s from attempt where id = $1`,
          [attempt],
        ),
      );
      windows.push(Number(row["s"]));
      await lab.expireOffer(attempt);
    }
    expect(windows).toEqual([3, 6, 12, 24, 30, 30]);
  });

  it("counts as past when its window lies more than 30 s ahead", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    await lab.sql(`update attempt set offer_until = clock_timestamp() + interval '1 day' where id = $1`, [attempt]);
    expect(await lab.claim(agent)).toMatchObject([{ attempt, offerNo: 2 }]);
  });

  it("is skipped once its cancel is recorded", async () => {
    const agent = await lab.agent();
    const { attempt, task } = await lab.offered(agent);
    await cancelTasks(lab.database.durable, [task], by);
    await lab.expireOffer(attempt);
    expect(await lab.claim(agent)).toEqual([]);
    expect(await lab.attempt(attempt)).toMatchObject({ rank: 1, cancel_requested: true });
  });

  it("is free at once when the session that made it ended, but not to a release of an older offer or another node", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    const other = await lab.otherNode("node-release");
    await lab.store.release(other.id, [{ attempt, offerNo: 1 }]);
    await lab.store.release(lab.node.id, [{ attempt, offerNo: 7 }]);
    expect(await lab.claim(agent)).toEqual([]);
    await lab.store.release(lab.node.id, [{ attempt, offerNo: 1 }]);
    expect(await lab.attempt(attempt)).toMatchObject({ rank: 1, offer_no: 1, journal_id: agent.journalId });
    expect(await lab.claim(agent, { node: other.id })).toMatchObject([{ attempt, offerNo: 2 }]);
  });

  it("is not claimed again after it was accepted", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.accepted(agent);
    await lab.expireOffer(attempt);
    expect(await lab.claim(agent)).toEqual([]);
  });
});
