// Sealed secrets in the database: stored with their task or not at all, read with the claim that offers it, kept while a
// person may still retry, and gone after that.
import { describe, expect, it } from "vitest";
import { readTask } from "../../server/store/read-tasks.ts";
import { prune } from "../../server/store/retention.ts";
import { retryTask } from "../../server/store/retry-task.ts";
import { secretsKeptHours } from "../../server/store/task-secrets.ts";
import { systemClock } from "../../shared/clock.ts";
import { attemptIdSchema, newId, type TaskId } from "../../shared/ids.ts";
import { creditOf, first, ids, newSubmission, newTask, useLab, type TestAgent } from "./fixture.ts";

const lab = useLab();
const by = { principal: "tester", address: "192.0.2.7" };
const sealed = Buffer.from("not to be read");

async function submitted(agent: TestAgent): Promise<{ readonly task: TaskId }> {
  const task = { ...newTask(agent.id), secrets: { names: ["B", "A"], sealed } };
  const submission = newSubmission(lab.node, [task, newTask(agent.id)]);
  expect(await lab.store.submit(submission)).toMatchObject({ kind: "stored" });
  return task;
}

const claim = (agent: TestAgent) => lab.store.claim({ node: lab.node.id, credits: [creditOf(agent)], most: 10 });
const kept = async (task: TaskId): Promise<number> =>
  (await lab.sql(`select sealed from task_secret where task_id = $1`, [task])).length;
const endedHoursAgo = (task: TaskId, hours: number) =>
  lab.sql(
    `update attempt set rank = 9, state = 'failed', finished_at = clock_timestamp() - make_interval(hours => $2::int),
      created_at = clock_timestamp() - make_interval(hours => $2::int + 1) where task_id = $1`,
    [task, hours],
  );

describe("sealed secrets", () => {
  it("come with the claim of their task, names in order, and cost others nothing", async () => {
    const agent = await lab.agent();
    const { task } = await submitted(agent);
    const claimed = await claim(agent);
    expect(claimed).toHaveLength(2);
    expect(claimed.find((one) => one.task === task)).toMatchObject({ secretNames: ["B", "A"], sealedSecrets: sealed });
    const other = claimed.find((one) => one.task !== task);
    expect(other === undefined ? [] : Object.keys(other)).not.toContain("secretNames");
    expect((await readTask(lab.database.durable, task))?.secretNames).toEqual(["B", "A"]);
  });

  it("are not stored again by a repeat, nor by a request under a key that was used", async () => {
    const agent = await lab.agent();
    const task = { ...newTask(agent.id), secrets: { names: ["S"], sealed } };
    const submission = newSubmission(lab.node, [task], "repeated-secrets");
    await lab.store.submit(submission);
    const again = { ...newTask(agent.id), secrets: { names: ["S"], sealed } };
    expect(await lab.store.submit(newSubmission(lab.node, [again], "repeated-secrets"))).toMatchObject({
      kind: "repeated",
    });
    expect([await kept(task.task), await kept(again.task)]).toEqual([1, 0]);
  });

  it(`stay while an attempt is open and ${secretsKeptHours} hours after the last has ended`, async () => {
    const agent = await lab.agent();
    const [open, recent, over] = [await submitted(agent), await submitted(agent), await submitted(agent)];
    await endedHoursAgo(open.task, 100);
    await lab.sql(`update attempt set rank = 3, state = 'running', finished_at = null where task_id = $1`, [open.task]);
    await endedHoursAgo(recent.task, secretsKeptHours - 1);
    await endedHoursAgo(over.task, secretsKeptHours + 1);
    await prune(lab.database, systemClock);
    expect([await kept(open.task), await kept(recent.task), await kept(over.task)]).toEqual([1, 1, 0]);
  });

  it("let a task be retried until then, and not without them", async () => {
    const agent = await lab.agent();
    const { task } = await submitted(agent);
    await endedHoursAgo(task, 1);
    const retry = () => retryTask(lab.database.durable, { task, attempt: newId(ids, attemptIdSchema) }, by);
    expect(await retry()).toMatchObject({ retried: true, lacksSecrets: false });
    await lab.sql(`update attempt set rank = 9, state = 'failed' where task_id = $1`, [task]);
    await lab.sql(`delete from task_secret where task_id = $1`, [task]);
    expect(await retry()).toMatchObject({ retried: false, lacksSecrets: true });
    const attempts = await lab.sql(`select count(*)::int as count from attempt where task_id = $1`, [task]);
    expect(first(attempts)["count"]).toBe(2);
  });

  it("are told as gone when a claim finds none", async () => {
    const agent = await lab.agent();
    const { task } = await submitted(agent);
    await lab.sql(`delete from task_secret where task_id = $1`, [task]);
    const found = (await claim(agent)).find((one) => one.task === task);
    expect(found).toMatchObject({ secretNames: ["B", "A"], sealedSecrets: undefined });
  });
});
