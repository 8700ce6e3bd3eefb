// What people set, in SQL, beyond what the model's histories compare: audit rows, what is read back, and acts that meet.
import { describe, expect, it } from "vitest";
import { attemptIdSchema, newId, nodeIdSchema, taskIdSchema } from "../../shared/ids.ts";
import { beatNode } from "../../server/store/membership.ts";
import { findNodes, readRemains } from "../../server/store/nodes.ts";
import { offlineAgents } from "../../server/store/offline-agents.ts";
import { readCluster, setAgentPaused, setClusterPaused } from "../../server/store/pause.ts";
import { readStanding } from "../../server/store/read-standing.ts";
import { readTask } from "../../server/store/read-tasks.ts";
import { retryTask } from "../../server/store/retry-task.ts";
import { removeNode, setNode } from "../../server/store/set-node.ts";
import { bands } from "../../server/store/submit-tasks.ts";
import { writeRefusals } from "../../server/store/write-refusals.ts";
import { findAgent } from "../../server/store/agents.ts";
import { first, ids, resultRecord, useLab } from "./fixture.ts";

const lab = useLab();
const sql = () => lab.database.durable;
const by = { principal: "tester", address: "192.0.2.7" };
const audited = (target: string) =>
  lab.sql(`select action, actor, address, detail from audit where target = $1 order by id`, [target]);
const beat = (settingsSeen: number) => {
  const { id, bootId } = lab.node;
  return beatNode(sql(), { id, bootId, active: 2, sessions: 1, draining: false, settingsSeen });
};
/** As a node that acts by none yet is told them. */
const newestSettings = async () => {
  const answer = await beat(0);
  return answer.kind === "beaten" ? answer.settings.version : 0;
};
const present = (agent: Awaited<ReturnType<typeof lab.agent>>) =>
  lab.store.presence({ agent: agent.id, node: lab.node.id, nodeBootId: lab.node.bootId, change: "connected" });

describe("the cluster's pause", () => {
  it("is known to be behind on each live node until its heartbeat says that it acts by it", async () => {
    await beat(await newestSettings());
    expect(await readCluster(sql())).toMatchObject({ name: "test", paused: false, behind: [] });
    await setClusterPaused(sql(), true, by);
    expect(await readCluster(sql())).toMatchObject({ paused: true, behind: ["node-a"] });
    const version = await newestSettings();
    await setClusterPaused(sql(), true, by);
    expect(await newestSettings()).toBe(version);
    await beat(version);
    expect(await readCluster(sql())).toMatchObject({ paused: true, behind: [] });
    await setClusterPaused(sql(), false, by);
    const { id } = await readCluster(sql());
    expect((await audited(id)).map((row) => row["action"])).toEqual(["cluster-pause", "cluster-resume"]);
  });

  it("is not taken for known because a node acted by a later change, which a failover lost", async () => {
    const version = await newestSettings();
    await beat(version + 1);
    await beat(version);
    await setClusterPaused(sql(), true, by);
    expect(await readCluster(sql())).toMatchObject({ paused: true, behind: ["node-a"] });
    await setClusterPaused(sql(), false, by);
  });

  it("does not wait for nodes that are dead or removed", async () => {
    const dead = await lab.otherNode("node-dead");
    await lab.sql(`update node set heartbeat_at = clock_timestamp() - interval '1 minute' where id = $1`, [dead.id]);
    const removed = await lab.otherNode("node-gone");
    expect(await removeNode(sql(), removed.id, by)).toBe(true);
    expect(await removeNode(sql(), removed.id, by)).toBe(false);
    expect((await readCluster(sql())).behind).toEqual(["node-a"]);
    expect(await audited(removed.id)).toMatchObject([{ action: "node-remove", actor: "tester", address: "192.0.2.7" }]);
  });
});

describe("what is set for a node", () => {
  it("comes with its next heartbeat, beside the load of the others, and leaves one audit row an act", async () => {
    const other = await lab.otherNode("node-other");
    const before = await newestSettings();
    await beat(before);
    await setNode(sql(), { node: lab.node.id, drain: "finish" }, by);
    await setNode(sql(), { node: other.id, taskCap: 7 }, by);
    await beat(before);
    expect((await readCluster(sql())).behind).toContain("node-a");
    await beat(await newestSettings());
    expect((await readCluster(sql())).behind).not.toContain("node-a");
    const answer = await beat(0);
    expect(answer).toMatchObject({ kind: "beaten", settings: { drain: "finish", taskCap: 1_000 } });
    expect(answer.kind === "beaten" ? answer.others : []).toContainEqual({ active: 0, cap: 7, draining: false });
    expect(await audited(other.id)).toMatchObject([{ action: "node-set", detail: { name: "node-other", taskCap: 7 } }]);
    await setNode(sql(), { node: lab.node.id, drain: "none" }, by);
    expect(await setNode(sql(), { node: newId(ids, nodeIdSchema), drain: "none" }, by)).toBe(false);
    expect((await findNodes(sql(), "node-other")).map(({ id, taskCap }) => [id, taskCap])).toEqual([[other.id, 7]]);
  });

  it("is what still flows through it: its agents, their offers and homes", async () => {
    const agent = await lab.agent();
    expect(await readRemains(sql(), lab.node.id)).toMatchObject({ sessions: 0, active: 0 });
    await present(agent);
    const { task } = await lab.queueOne(agent);
    expect(await readRemains(sql(), lab.node.id)).toMatchObject({ sessions: 1, active: 0, agents: [agent.name] });
    await lab.claim(agent);
    expect(await readRemains(sql(), lab.node.id)).toMatchObject({
      active: 1,
      tasks: [{ id: task, agent: agent.name }],
    });
  });
});

describe("an agent", () => {
  it("that is paused is offered nothing, by claim or at once", async () => {
    const agent = await lab.agent();
    expect(await setAgentPaused(sql(), { nameOrId: agent.name, paused: true }, by)).toBe(agent.id);
    await setAgentPaused(sql(), { nameOrId: agent.id, paused: true }, by);
    await lab.queueOne(agent);
    expect(await lab.claim(agent)).toEqual([]);
    await setAgentPaused(sql(), { nameOrId: agent.id, paused: false }, by);
    expect(await lab.claim(agent)).toHaveLength(1);
    expect((await audited(agent.id)).map((row) => row["action"])).toEqual(["agent-pause", "agent-resume"]);
    expect(await setAgentPaused(sql(), { nameOrId: "nobody", paused: true }, by)).toBeUndefined();
  });

  it("is offline without a session on a live node of that boot", async () => {
    const [here, gone] = [await lab.agent(), await lab.agent()];
    await present(here);
    expect(await offlineAgents(sql(), [here.id, gone.id])).toEqual([gone.id]);
  });

  it("shows why a node refused it last, while it is missing there", async () => {
    const agent = await lab.agent();
    await writeRefusals(sql(), lab.node.id, [{ agent: agent.id, reason: "certificate superseded" }]);
    await writeRefusals(sql(), lab.node.id, [{ agent: agent.id, reason: "agent revoked" }]);
    const shown = (await findAgent(sql(), agent.name))?.nodes.find(({ name }) => name === "node-a");
    expect(shown).toMatchObject({ since: null, refusal: { reason: "agent revoked", at: expect.any(String) } });
  });
});

describe("retrying", () => {
  it("makes one attempt however many ask at once, with the queue time of the first", async () => {
    const agent = await lab.agent();
    const { task, attempt } = await lab.queueOne(agent, { queueMs: 60_000 });
    await lab.claim(agent);
    const { journalId } = agent;
    const record = resultRecord({ outcome: "failed", exitCode: 3 });
    await lab.store.finish({ attempt, agent: agent.id, journalId, node: lab.node.id, record });
    const others = [lab.database, await lab.connect(), await lab.connect(), await lab.connect()];
    const answers = await Promise.all(
      others.map((database) => retryTask(database.durable, { task, attempt: newId(ids, attemptIdSchema) }, by)),
    );
    expect(answers.filter((answer) => answer?.retried === true)).toHaveLength(1);
    const found = await readTask(sql(), task);
    expect(found?.attempts.map(({ number, state }) => [number, state])).toEqual([
      [1, "failed"],
      [2, "queued"],
    ]);
    const limit = first(
      await lab.sql(
        `select extract(epoch from expires_at - created_at)::int as seconds from attempt where task_id = $1 and number = 2`,
        [task],
      ),
    );
    expect(limit["seconds"]).toBe(60);
    expect(await audited(task)).toMatchObject([{ action: "retry", detail: { attempt: 2 } }]);
    expect(
      await retryTask(sql(), { task: newId(ids, taskIdSchema), attempt: newId(ids, attemptIdSchema) }, by),
    ).toBeUndefined();
  });

  it("keeps the priority: the next attempt of an urgent task goes before what was queued meanwhile", async () => {
    const agent = await lab.agent();
    const { task } = await lab.queueOne(agent, { band: bands.high });
    await lab.sql(`update attempt set rank = 9, state = 'expired' where task_id = $1`, [task]);
    await lab.queueOne(agent);
    const attempt = newId(ids, attemptIdSchema);
    await retryTask(sql(), { task, attempt }, by);
    expect(await lab.claim(agent, { credit: 1 })).toMatchObject([{ attempt }]);
  });

  it("is refused for an agent that is not active", async () => {
    const agent = await lab.agent();
    const { task } = await lab.queueOne(agent);
    await lab.sql(`update attempt set rank = 9, state = 'expired' where task_id = $1`, [task]);
    await lab.sql(`update agent set status = 'revoked' where id = $1`, [agent.id]);
    expect(await retryTask(sql(), { task, attempt: newId(ids, attemptIdSchema) }, by)).toMatchObject({
      retried: false,
      agentStatus: "revoked",
    });
  });
});

describe("a database that a node wants to join", () => {
  it("says whether it holds a cluster, who lives there, and whether this node was removed", async () => {
    const gone = await lab.otherNode("node-left");
    await removeNode(sql(), gone.id, by);
    expect(await readStanding(sql(), gone.id)).toMatchObject({ cluster: true, removed: true });
    const standing = await readStanding(sql(), newId(ids, nodeIdSchema));
    expect(standing).toMatchObject({ cluster: true, removed: false });
    expect(standing.others).toContainEqual({ name: "node-a", version: "1.0.0" });
    expect(standing.server.version).toBeGreaterThanOrEqual(150_000);
  });
});
