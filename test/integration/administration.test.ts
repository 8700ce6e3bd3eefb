// What people set for nodes, agents, tasks and the cluster, over HTTP: two nodes on one database, one agent with both.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../shared/clock.ts";
import { eventually } from "../harness/eventually.ts";
import { NodeGroup } from "../harness/node-group.ts";
import { queryRows } from "../harness/query.ts";

let group: NodeGroup;

beforeAll(async () => {
  group = await NodeGroup.start(["node-b"]);
  await group.startAgent("web-01");
});
afterAll(() => group[Symbol.asyncDispose]());

const readiness = async (url: string) => {
  const response = await fetch(`${url}/readyz`);
  return [response.status, ((await response.json()) as { draining: boolean }).draining];
};
// A node hears of a setting by a hint and goes on as before until then.
const everyNodeHeard = () =>
  eventually("every node acts by what was set", async () => {
    const { behind } = await group.client.cluster.show();
    return { done: behind.length === 0, state: behind };
  });
const homeOf = async (task: string) => (await group.client.tasks.show(task)).home;
const queue = async (through = group.client) =>
  (await through.run({ on: "web-01", script: "true" })).tasks[0]?.id ?? "";
const waiting = (task: string, words: string) =>
  eventually(`task ${task} says that it waits because ${words}`, async () => {
    const view = await group.client.tasks.show(task);
    return { done: view.waiting?.includes(words) === true, state: view };
  });

describe("draining a node", () => {
  it("is not ready within a second, hands its homes over, is empty, and the script does not notice", async () => {
    const task = await group.runningThrough("node-b", "web-01");
    const beganMs = systemClock.monotonicMs();
    expect(await group.client.nodes.drain("node-b")).toMatchObject({
      name: "node-b",
      draining: true,
      drain: "hand-over",
    });
    await eventually("node-b is not ready", async () => {
      const seen = await readiness(group.named("node-b").url);
      return { done: seen[0] === 503 && seen[1] === true, state: seen };
    });
    expect(systemClock.monotonicMs() - beganMs).toBeLessThan(1_000);
    await eventually("node-b holds nothing", async () => {
      const remains = await group.client.nodes.remains("node-b");
      return { done: remains.empty, state: remains };
    });
    await group.flowsThrough(task.id, ["node-a"]);
    expect(await group.client.agents.show("web-01")).toMatchObject({
      connection: "partly",
      nodes: expect.arrayContaining([
        expect.objectContaining({ name: "node-b", state: "missing", refusal: { reason: "the node drains", at: null } }),
      ]),
    });
    await task.end();
    await group.reaches(task.id, "succeeded");
    expect(await (await group.client.tasks.follow(task.id)).result()).toMatchObject({ exitCode: 0 });
  });

  it("takes submissions still, which run through the other node", async () => {
    const id = await queue(group.named("node-b").client);
    await group.reaches(id, "succeeded");
  });

  it("survives a restart, and agents come back once it is lifted", async () => {
    await group.stop("node-b");
    const again = await group.add("node-b");
    expect(await readiness(again.url)).toEqual([503, true]);
    await group.connectedTo("web-01", ["node-a"]);
    expect(await group.client.nodes.resume("node-b")).toMatchObject({ drain: "none" });
    await eventually("node-b is ready", async () => {
      const seen = await readiness(again.url);
      return { done: seen[0] === 200, state: seen };
    });
    await group.connectedTo("web-01", ["node-a", "node-b"]);
  });

  it("to finish keeps what flows through it, takes nothing new, and gives its agent away afterwards", async () => {
    const task = await group.runningThrough("node-b", "web-01");
    await group.client.nodes.drain("node-b", { finish: true });
    const other = await queue(group.named("node-b").client);
    await group.reaches(other, "succeeded");
    expect(await homeOf(task.id)).toBe("node-b");
    const held = {
      empty: false,
      sessions: 1,
      active: 1,
      agents: ["web-01"],
      tasks: [{ id: task.id, agent: "web-01" }],
    };
    expect(await group.client.nodes.remains("node-b")).toEqual(held);
    await task.end();
    await group.reaches(task.id, "succeeded");
    await group.connectedTo("web-01", ["node-a"]);
    await group.client.nodes.resume("node-b");
    await group.connectedTo("web-01", ["node-a", "node-b"]);
  });

  it("of every node keeps the agents: a go-away from all is ignored", async () => {
    const task = await group.running("web-01");
    for (const { name } of group.nodes) await group.client.nodes.drain(name);
    await everyNodeHeard();
    const queued = await queue();
    // It left the first that asked; the last one it keeps.
    expect(await waiting(queued, "is connected only to node-")).toMatchObject({
      waiting: expect.stringMatching(/node-[ab](, node-b)?, draining$/),
    });
    await task.end();
    await group.reaches(task.id, "succeeded");
    for (const { name } of group.nodes) await group.client.nodes.resume(name);
    await group.reaches(queued, "succeeded");
    await group.connectedTo("web-01", ["node-a", "node-b"]);
  });
});

describe("a pause", () => {
  it("of the cluster holds on every live node when the call returns, and what queued meanwhile runs afterwards", async () => {
    expect(await group.client.cluster.pause()).toMatchObject({ paused: true, behind: [] });
    const ids = await Promise.all(group.nodes.map(({ client }) => queue(client)));
    for (const id of ids) {
      const view = await group.client.tasks.show(id);
      expect([view.state, view.waiting]).toEqual(["queued", "the cluster is paused"]);
    }
    expect(await group.client.cluster.resume()).toMatchObject({ paused: false, behind: [] });
    for (const id of ids) await group.reaches(id, "succeeded");
  });

  it("of an agent keeps what runs, offers nothing more, and says so", async () => {
    const task = await group.running("web-01");
    expect(await group.client.agents.pause("web-01")).toMatchObject({ paused: true, connection: "fully" });
    const id = await queue();
    await waiting(id, "agent web-01 is paused");
    await task.end();
    await group.reaches(task.id, "succeeded");
    expect((await group.client.tasks.show(id)).state).toBe("queued");
    expect(await group.client.agents.resume("web-01")).toMatchObject({ paused: false });
    await group.reaches(id, "succeeded");
    await expect(group.client.agents.pause("nobody")).rejects.toMatchObject({ code: "agent.unknown" });
  });
});

describe("the task cap", () => {
  it("of zero on every node leaves users served and tasks waiting, and a larger one holds at once", async () => {
    for (const { name } of group.nodes) await group.client.nodes.set(name, { taskCap: 0 });
    await everyNodeHeard();
    const id = await queue();
    await waiting(id, "every node that reaches agent web-01 is at its task cap: node-a (0 of 0), node-b (0 of 0)");
    await group.client.nodes.set("node-b", { taskCap: 5 });
    await group.reaches(id, "succeeded");
    const view = await group.client.nodes.show("node-b");
    expect(view.taskCap).toBe(5);
    for (const { name } of group.nodes) await group.client.nodes.set(name, { taskCap: 1_000 });
  });
});

describe("a task", () => {
  it("is tried again by a person only when it has ended, as a new attempt", async () => {
    const handle = await group.client.run({ on: "web-01", script: "exit 3" });
    const id = handle.tasks[0]?.id ?? "";
    await group.reaches(id, "failed");
    expect(await group.named("node-b").client.tasks.retry(id)).toMatchObject({
      id,
      attempts: [{ number: 1 }, { number: 2 }],
    });
    await eventually("the second attempt has failed too", async () => {
      const view = await group.client.tasks.show(id);
      return { done: view.state === "failed" && view.attempts.length === 2, state: view };
    });
    const running = await group.running("web-01");
    await expect(group.client.tasks.retry(running.id)).rejects.toMatchObject({ code: "task.open" });
    await running.end();
    await group.reaches(running.id, "succeeded");
  });

  it("moved to the top runs before older ones, and one of high priority before normal ones", async () => {
    await group.client.agents.pause("web-01");
    const mark = (name: string) => `echo ${name} >> '${group.first.folder}/order'`;
    const submit = async (name: string, priority: "normal" | "high" = "normal") =>
      (await group.client.run({ on: "web-01", script: mark(name), priority })).tasks[0]?.id ?? "";
    const ids = [await submit("old"), await submit("high", "high"), await submit("young"), await submit("moved")];
    await group.client.tasks.moveToTop(ids[3] ?? "");
    // In the order of the claim: the agent runs several at once.
    const rows = await queryRows(
      group.first.databaseUrl,
      "select task_id from attempt where rank = 0 order by band, queue_no",
    );
    expect(rows.map((row) => row["task_id"])).toEqual([ids[3], ids[1], ids[0], ids[2]]);
    await group.client.agents.resume("web-01");
    for (const id of ids) await group.reaches(id, "succeeded");
    await expect(group.client.tasks.moveToTop(ids[0] ?? "")).rejects.toMatchObject({ code: "task.finished" });
  });

  it("that may not wait is refused at once, whole, when an agent has no live session", async () => {
    await group.startAgent("web-02");
    await group.agents.at(-1)?.stop();
    await group.connectedTo("web-02", []);
    const before = (await group.client.tasks.list({ agent: "web-01", limit: 1 })).items[0]?.id;
    await expect(group.client.run({ on: "web-01,web-02", script: "true", ifOffline: "refuse" })).rejects.toMatchObject({
      code: "agent.offline",
      message: expect.stringContaining("session with web-02;"),
    });
    expect((await group.client.tasks.list({ agent: "web-01", limit: 1 })).items[0]?.id).toBe(before);
    const handle = await group.client.run({ on: "web-01", script: "true", ifOffline: "refuse" });
    await group.reaches(handle.tasks[0]?.id ?? "", "succeeded");
    const waits = await group.client.run({ on: "web-02", script: "true", queueTimeoutMs: 1_000 });
    await waiting(waits.tasks[0]?.id ?? "", "agent web-02 is offline since");
    await group.reaches(waits.tasks[0]?.id ?? "", "expired");
  });
});

describe("an agent's roster", () => {
  it("says since when and how far away each node is", async () => {
    const view = await eventually("the round trips are known", async () => {
      const seen = await group.client.agents.show("web-01");
      return { done: seen.nodes.every(({ roundTripMs }) => roundTripMs !== null), state: seen };
    });
    for (const node of view.nodes) {
      expect(node).toMatchObject({ state: "connected", refusal: null });
      expect(node.roundTripMs).toBeGreaterThan(0);
      expect(Date.parse(node.since ?? "")).toBeGreaterThan(Date.now() - 600_000);
    }
  });
});
