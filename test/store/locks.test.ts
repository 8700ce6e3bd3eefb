// Isolation locks and slots as the database keeps them: who holds, who waits, why an accepted task waits, what was set.
import { describe, expect, it } from "vitest";
import { agentView, taskView } from "../../server/tasks/task-view.ts";
import { readAgentSlots, setAgentSlots } from "../../server/store/agent-slots.ts";
import { findAgent } from "../../server/store/agents.ts";
import { locksStatement, readLocks } from "../../server/store/read-locks.ts";
import { readTask } from "../../server/store/read-tasks.ts";
import { progressOf, useLab, type QueuedTask, type TestAgent } from "./fixture.ts";

const lab = useLab();
const sql = () => lab.database.durable;
const by = { principal: "tester", address: "192.0.2.9" };
const specOf = (isolation?: object): string =>
  JSON.stringify({ kind: "script", interpreter: "sh", script: "x".repeat(100_000), graceMs: 1_234, isolation });
const full = { name: "deploy", mode: "full" };

const accepted = (agent: TestAgent, isolation?: object): Promise<QueuedTask> =>
  lab.accepted(agent, { spec: specOf(isolation) });
async function running(agent: TestAgent, isolation?: object): Promise<QueuedTask> {
  const queued = await accepted(agent, isolation);
  await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id, reached: "running" });
  return queued;
}
const waiting = async ({ task }: QueuedTask): Promise<string | null> => {
  const row = await readTask(sql(), task);
  if (row === undefined) throw new Error(`there is no task ${task}`);
  return taskView(row).waiting;
};
/** As if it had been accepted so long ago. */
const age = ({ attempt }: QueuedTask, seconds: number) =>
  lab.sql(`update attempt set accepted_at = accepted_at - make_interval(secs => $2) where id = $1`, [attempt, seconds]);

describe("an agent's locks", () => {
  it("are those of its open attempts: holders, then who waits in order of acceptance, with their age", async () => {
    const agent = await lab.agent();
    const holder = await running(agent, full);
    const [first, second] = [await accepted(agent, { name: "deploy" }), await accepted(agent, full)];
    await lab.queueOne(agent, { spec: specOf(full) });
    const plain = await running(agent);
    await lab.accepted(agent, { spec: JSON.stringify({ kind: "no-op" }) });
    await running(await lab.agent(), full);
    await age(second, 60);
    const found = await readLocks(sql(), agent.name);
    expect(found?.agent).toBe(agent.name);
    expect(found?.rows.map(({ lock, mode, role, task }) => [lock, mode, role, task])).toEqual([
      ["deploy", "full", "holds", holder.task],
      ["default", "none", "holds", plain.task],
      ["deploy", "full", "waits", second.task],
      ["deploy", "none", "waits", first.task],
    ]);
    expect(found?.rows[2]?.ageMs).toBeGreaterThanOrEqual(60_000);
    expect(found?.rows[2]?.since).toBeLessThan(found?.rows[0]?.since ?? 0);
    expect(await readLocks(sql(), "nobody")).toBeUndefined();
  });

  it("are read through the index of open attempts", async () => {
    const agent = await lab.agent();
    await lab.queue(await lab.agent(), { count: 1_000 });
    await lab.sql(`analyze attempt`);
    const plan = await lab.sql(`explain ${locksStatement.text.replace("$1", `'${agent.id}'`)}`);
    expect(JSON.stringify(plan)).toContain("attempt_open");
  });

  it("are the default's for tasks of the version before", async () => {
    const agent = await lab.agent();
    const queued = await running(agent);
    await lab.sql(`update task set lock_name = default, lock_mode = default where id = $1`, [queued.task]);
    expect((await readLocks(sql(), agent.id))?.rows).toMatchObject([{ lock: "default", mode: "none" }]);
  });
});

describe("an accepted task", () => {
  it("says who holds the lock it waits for and since when, and who is before it", async () => {
    const agent = await lab.agent();
    const reader = await running(agent, { name: "deploy" });
    const writer = await accepted(agent, full);
    const behind = await accepted(agent, { name: "deploy" });
    await age(writer, 10);
    expect(await waiting(writer)).toMatch(
      new RegExp(`^isolation lock deploy of agent ${agent.name} is held by task ${reader.task} since 20.*Z$`),
    );
    // The reader would not be in its way; the writer before it is.
    expect(await waiting(behind)).toBe(
      `isolation lock deploy: task ${writer.task} is before it on agent ${agent.name}`,
    );
    expect(await waiting(reader)).toBeNull();
  });

  it("that nobody's lock holds up has no free slot, once that takes more than a moment", async () => {
    const agent = await lab.agent();
    await running(agent, full);
    const other = await accepted(agent, { ...full, name: "other" });
    expect(await waiting(other)).toBeNull();
    await age(other, 2);
    expect(await waiting(other)).toBe(`agent ${agent.name} has no free slot`);
  });
});

describe("slots set for an agent", () => {
  it("are kept, audited once, shown, told in the greeting, and told again to who heard another number", async () => {
    const agent = await lab.agent();
    const set = (slots: number | null) => setAgentSlots(sql(), { nameOrId: agent.name, slots }, by);
    expect(await lab.greet(agent)).toEqual({ kind: "admitted" });
    expect([await set(0), await set(0)]).toEqual([agent.id, agent.id]);
    expect(await lab.greet(agent)).toEqual({ kind: "admitted", slots: 0 });
    const row = await findAgent(sql(), agent.id);
    expect(row === undefined ? undefined : agentView(row).slots).toBe(0);
    const told = (slots: number | null) => readAgentSlots(sql(), [{ agent: agent.id, slots }]);
    expect([await told(null), await told(3), await told(0)]).toEqual([
      [{ agent: agent.id, slots: 0 }],
      [{ agent: agent.id, slots: 0 }],
      [],
    ]);
    await set(null);
    expect([await told(0), await told(null)]).toEqual([[{ agent: agent.id, slots: null }], []]);
    expect(await lab.sql(`select actor, detail from audit where action = 'agent-set' order by id`)).toEqual([
      { actor: "tester", detail: { name: agent.name, slots: 0 } },
      { actor: "tester", detail: { name: agent.name, slots: null } },
    ]);
    expect(await setAgentSlots(sql(), { nameOrId: "nobody", slots: 1 }, by)).toBeUndefined();
  });

  it("are 0 to 1,000", async () => {
    const agent = await lab.agent();
    await expect(setAgentSlots(sql(), { nameOrId: agent.id, slots: 1_001 }, by)).rejects.toThrow("agent_slots_check");
  });
});
