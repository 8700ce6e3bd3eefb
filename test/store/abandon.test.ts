// Abandoning: final at once, honest about what may still run, and deaf to what comes later, which is shown all the same.
import { describe, expect, it } from "vitest";
import { newId, taskIdSchema, type TaskId } from "../../shared/ids.ts";
import { abandonTask } from "../../server/store/abandon-task.ts";
import { cancelTasks } from "../../server/store/cancel-tasks.ts";
import { readCancels } from "../../server/store/read-cancels.ts";
import { readOpenAttempts } from "../../server/store/read-open-attempts.ts";
import { readTask } from "../../server/store/read-tasks.ts";
import { ids, progressOf, resultRecord, useLab, type QueuedTask, type TestAgent } from "./fixture.ts";

const lab = useLab();
const sql = () => lab.database.durable;
const by = { principal: "tester", address: "192.0.2.9" };
const abandon = (task: TaskId) => abandonTask(sql(), task, by);
const finish = (agent: TestAgent, { attempt }: QueuedTask, change: Parameters<typeof resultRecord>[0] = {}) =>
  lab.store.finish({
    attempt,
    agent: agent.id,
    journalId: agent.journalId,
    node: lab.node.id,
    record: resultRecord(change),
  });
const abandoned = { rank: 9, state: "abandoned", reason: "may-still-run", cancel_requested: true, closed: true };

describe("abandoning", () => {
  it.each(["offered", "accepted", "running"] as const)(
    "ends what is %s, says so, and asks to cancel",
    async (state) => {
      const agent = await lab.agent();
      const queued = state === "offered" ? await lab.offered(agent) : await lab.accepted(agent);
      if (state === "running")
        await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id, reached: "running" });
      expect(await abandon(queued.task)).toEqual({
        attempt: queued.attempt,
        agent: agent.id,
        state: "abandoned",
        changed: true,
        graceMs: 1_234,
        letGo: false,
      });
      expect(await lab.attempt(queued.attempt)).toMatchObject({ ...abandoned, finished_at: expect.any(Date) });
      expect(
        await lab.sql(`select actor, address, detail from audit where action = 'abandon' and target = $1`, [
          queued.task,
        ]),
      ).toEqual([{ actor: "tester", address: "192.0.2.9", detail: { state } }]);
    },
  );

  it("asks the agent through any node until it has said how it ended, an hour at most", async () => {
    const agent = await lab.agent();
    const [first, second, queued] = [await lab.accepted(agent), await lab.accepted(agent), await lab.queueOne(agent)];
    for (const { task } of [first, second, queued]) await abandon(task);
    const asked = async (): Promise<unknown> => (await readCancels(sql(), [agent.id])).map(({ attempt }) => attempt);
    expect(await readCancels(sql(), [agent.id])).toEqual(
      [first, second].map(({ attempt }) => ({ attempt, agent: agent.id, graceMs: 1_234, abandoned: true })),
    );
    expect(await readCancels(sql(), [(await lab.agent()).id])).toEqual([]);
    expect(await finish(agent, first, { outcome: "cancelled" })).toEqual({ kind: "late" });
    expect(await asked()).toEqual([second.attempt]);
    await lab.sql(`update attempt set finished_at = finished_at - interval '61 minutes' where id = $1`, [
      second.attempt,
    ]);
    expect(await asked()).toEqual([]);
    await lab.sql(`update abandoned_attempt set abandoned_at = abandoned_at - interval '3 hours'`);
    const third = await lab.accepted(agent);
    await abandon(third.task);
    expect(await lab.sql(`select attempt_id from abandoned_attempt where agent_id = $1`, [agent.id])).toEqual([
      { attempt_id: third.attempt },
    ]);
  });

  it("of a task that ended with processes left has its agent let go, for a minute, and again when asked again", async () => {
    const agent = await lab.agent();
    const queued = await lab.accepted(agent);
    await finish(agent, queued, { outcome: "timed-out", reason: "kill-incomplete: 77" });
    expect(await readCancels(sql(), [agent.id])).toEqual([]);
    const ask = { attempt: queued.attempt, agent: agent.id, graceMs: 1_234, abandoned: true };
    expect(await abandon(queued.task)).toMatchObject({ state: "timed-out", changed: false, letGo: true });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ state: "timed-out", reason: "kill-incomplete: 77" });
    expect(await readCancels(sql(), [agent.id])).toEqual([ask]);
    await lab.sql(`update abandoned_attempt set abandoned_at = abandoned_at - interval '61 seconds'`);
    expect(await readCancels(sql(), [agent.id])).toEqual([]);
    await abandon(queued.task);
    expect(await readCancels(sql(), [agent.id])).toEqual([ask]);
    const audited = await lab.sql(`select detail from audit where action = 'abandon' and target = $1`, [queued.task]);
    expect(audited).toEqual([{ detail: { state: "timed-out" } }, { detail: { state: "timed-out" } }]);
  });

  it("cancels what no agent knows of: nothing may still run there", async () => {
    const agent = await lab.agent();
    const queued = await lab.queueOne(agent);
    expect(await abandon(queued.task)).toMatchObject({ state: "cancelled", changed: true });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ rank: 9, state: "cancelled", reason: "before-offer" });
    expect(await lab.claim(agent)).toEqual([]);
  });

  it("ends a task whose cancel nobody confirmed", async () => {
    const agent = await lab.agent();
    const queued = await lab.accepted(agent);
    await cancelTasks(sql(), [queued.task], by);
    expect(await abandon(queued.task)).toMatchObject({ state: "abandoned", changed: true });
  });

  it("changes nothing of a task that has ended, and knows of none that never was", async () => {
    const agent = await lab.agent();
    const [done, given] = [await lab.accepted(agent), await lab.accepted(agent)];
    await finish(agent, done);
    await abandon(given.task);
    const before = await lab.attempt(given.attempt);
    expect(await abandon(done.task)).toMatchObject({ state: "succeeded", changed: false });
    expect(await abandon(given.task)).toMatchObject({ state: "abandoned", changed: false });
    expect(await lab.attempt(given.attempt)).toEqual(before);
    expect(await lab.sql(`select 1 from audit where action = 'abandon' and target = $1`, [given.task])).toHaveLength(1);
    expect(await abandon(newId(ids, taskIdSchema))).toBeUndefined();
  });

  it("and a result at the same time: whoever locks the row first decides, and the other is kept beside it", async () => {
    for (let round = 0; round < 20; round += 1) {
      const agent = await lab.agent();
      const queued = await lab.accepted(agent);
      const [given, outcome] = await Promise.all([abandon(queued.task), finish(agent, queued)]);
      const { state } = await lab.attempt(queued.attempt);
      expect([state, given?.changed, outcome.kind]).toEqual(
        state === "abandoned" ? ["abandoned", true, "late"] : ["succeeded", false, "stored"],
      );
    }
  });
});

describe("after a task was abandoned", () => {
  it("a late acceptance is answered with the wish to cancel, and raises nothing", async () => {
    const agent = await lab.agent();
    const queued = await lab.offered(agent);
    await abandon(queued.task);
    for (const reached of ["accepted", "running"] as const) {
      expect(await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id, reached })).toMatchObject({
        kind: "row",
        state: "abandoned",
        cancelRequested: true,
        byAgent: false,
        graceMs: 1_234,
      });
    }
    expect(await lab.attempt(queued.attempt)).toMatchObject({ ...abandoned, accepted_at: null, started_at: null });
  });

  it("an agent that greets with it is shown the row it has to cancel", async () => {
    const agent = await lab.agent();
    const queued = await lab.accepted(agent);
    await abandon(queued.task);
    expect(await readOpenAttempts(sql(), agent.id, [queued.attempt])).toEqual([
      {
        attempt: queued.attempt,
        state: "abandoned",
        rank: 9,
        journalId: agent.journalId,
        cancelRequested: true,
        byAgent: false,
        graceMs: 1_234,
      },
    ]);
    expect(await readOpenAttempts(sql(), agent.id, [])).toEqual([]);
  });

  it("a late result changes no verdict and is shown with the attempt", async () => {
    const agent = await lab.agent();
    const queued = await lab.accepted(agent);
    await abandon(queued.task);
    for (let count = 0; count < 2; count += 1)
      expect(await finish(agent, queued, { outcome: "failed", reason: "exit-code", exitCode: 3 })).toEqual({
        kind: "late",
      });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ ...abandoned, exit_code: null, result: null });
    expect((await readTask(sql(), queued.task))?.attempts).toMatchObject([
      {
        state: "abandoned",
        exitCode: null,
        late: [{ outcome: "failed", reason: "exit-code", exitCode: 3, signal: null, receivedAt: expect.any(String) }],
      },
    ]);
  });

  it("of many late results the first ten are shown", async () => {
    const agent = await lab.agent();
    const queued = await lab.accepted(agent);
    await abandon(queued.task);
    for (let exitCode = 1; exitCode <= 12; exitCode += 1) await finish(agent, queued, { outcome: "failed", exitCode });
    const shown = (await readTask(sql(), queued.task))?.attempts[0]?.late.map((late) => late.exitCode);
    expect(shown).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });
});
