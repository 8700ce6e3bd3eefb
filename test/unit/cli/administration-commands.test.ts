// The commands that set something for nodes, agents, tasks and the cluster: what they say, as text and JSON, and how they exit.
import { expect, test } from "vitest";
import { main } from "../../../cli/main.ts";
import { agentView, FakeTask, nodeView, startApi, taskView, type RunningApi } from "../../fakes/api-backend.ts";
import { FakeShell } from "../../fakes/shell.ts";

async function run(api: RunningApi, ...words: string[]) {
  const shell = new FakeShell();
  const at = words.includes("--") ? words.indexOf("--") : words.length;
  const exitCode = await main(
    [...words.slice(0, at), "--url", api.url, "--api-key", api.apiKey, ...words.slice(at)],
    shell,
  );
  return { exitCode, out: shell.out.text, err: shell.err.text };
}

async function withNode() {
  const api = await startApi();
  const node = nodeView({ name: "node-b", sessions: 2 });
  const other = nodeView({ name: "node-c" });
  for (const one of [node, other]) api.backend.nodes.set(one.id, one);
  return { api, node, other };
}

const holding = {
  empty: false,
  sessions: 1,
  active: 1,
  agents: ["web-01", "web-02"],
  tasks: [{ id: "t-1", agent: "web-01" }],
};
const nothing = { empty: true, sessions: 0, active: 0, agents: [], tasks: [] };

test("server drain watches until the node holds nothing, saying on standard error what is left, and exits 0", async () => {
  const { api, node } = await withNode();
  await using _ = api;
  api.backend.remains = [holding, nothing];
  expect(await run(api, "server", "drain", "node-b", "--wait", "10s")).toEqual({
    exitCode: 0,
    out: "node-b is drained: it holds nothing\n",
    err: "holdfast: node-b drains: 1 agent connected, 1 task flows through it\n",
  });
  expect(api.backend.nodes.get(node.id)).toMatchObject({ drain: "hand-over", draining: true });
});

test.each([
  ["dead", { state: "dead" }],
  ["draining", { draining: true, drain: "finish" }],
  ["for users only", { taskCap: 0 }],
] as const)("server drain says that tasks will wait when the only other node is %s", async (_name, change) => {
  const { api, other } = await withNode();
  await using _ = api;
  api.backend.nodes.set(other.id, { ...other, ...change });
  api.backend.remains = [nothing];
  expect(await run(api, "server", "drain", "node-b", "--wait", "10s")).toEqual({
    exitCode: 0,
    out: "node-b is drained: it holds nothing\n",
    err: "holdfast: no other node takes tasks: what is queued waits until one does or node-b is resumed\n",
  });
});

test("server drain names at its deadline what the node still holds, and exits 69: try again", async () => {
  const { api, node } = await withNode();
  await using _ = api;
  api.backend.remains = [holding];
  const late = await run(api, "server", "drain", "node-b", "--finish", "--wait", "10ms");
  expect(late.exitCode).toBe(69);
  expect(late.out).toMatch(/^node-b still holds 1 agent and 1 task:\nAGENT +TASK\nweb-02\nweb-01 +t-1\n$/);
  expect(api.backend.nodes.get(node.id)).toMatchObject({ drain: "finish" });
  const json = await run(api, "server", "drain", "node-b", "--wait", "0s", "--json");
  expect(json.exitCode).toBe(0);
  expect(JSON.parse(json.out)).toMatchObject({ node: { name: "node-b", drain: "hand-over" }, ...holding });
});

test("server drain never calls a node drained that is not heard: it exits 69 and says what is not known", async () => {
  const { api, node } = await withNode();
  await using _ = api;
  api.backend.nodes.set(node.id, { ...node, state: "dead", heartbeatAt: "2026-11-23T16:00:00.000Z" });
  api.backend.remains = [nothing];
  const asked = await run(api, "server", "drain", "node-b", "--wait", "10s");
  expect(asked.exitCode).toBe(69);
  expect(asked.out).toMatch(/^node-b has not been heard since 2026-11-23T16:00:00.000Z: what it holds is not known/);
  const json = await run(api, "server", "drain", "node-b", "--wait", "10s", "--json");
  expect(json.exitCode).toBe(69);
  expect(JSON.parse(json.out)).toMatchObject({ node: { state: "dead" }, empty: true });
});

test("server resume, set and remove do what they say; remove only with --yes", async () => {
  const { api, node } = await withNode();
  await using _ = api;
  await run(api, "server", "drain", "node-b");
  expect(await run(api, "server", "resume", "node-b")).toMatchObject({ exitCode: 0, out: "node-b takes work again\n" });
  expect(api.backend.nodes.get(node.id)).toMatchObject({ drain: "none" });
  expect(await run(api, "server", "set", "node-b", "--task-cap", "0")).toMatchObject({
    exitCode: 0,
    out: "node-b takes at most 0 tasks at once\n",
  });
  expect((await run(api, "server", "set", "node-b")).exitCode).toBe(2);
  expect(await run(api, "server", "set", "node-b", "--task-cap", "-1")).toMatchObject({ exitCode: 2 });
  const asked = await run(api, "server", "remove", "node-b");
  expect([asked.exitCode, api.backend.nodes.get(node.id)?.state]).toEqual([2, "live"]);
  expect(asked.err).toMatch(/removing node node-b \(live, 2 agents connected\) cannot be undone[^]*--yes/);
  expect(await run(api, "server", "remove", "node-b", "--yes")).toMatchObject({
    exitCode: 0,
    out: "node-b is removed\n",
  });
  expect(await run(api, "server", "drain", "nobody")).toMatchObject({
    exitCode: 1,
    err: expect.stringContaining("node.unknown"),
  });
});

test("nodes list shows load, cap and drain of each", async () => {
  const { api, node } = await withNode();
  await using _ = api;
  api.backend.nodes.set(node.id, { ...node, active: 3, taskCap: 10, draining: true, drain: "finish" });
  expect((await run(api, "nodes", "list")).out).toMatch(/node-b +live, finishing +3 of 10 +2 /);
});

test("cluster pause says so and exits 69 when somebody resumed the cluster before every node had it", async () => {
  await using api = await startApi();
  api.backend.setClusterPaused = async () => ({ ...api.backend.cluster, paused: false });
  expect(await run(api, "cluster", "pause")).toMatchObject({
    exitCode: 69,
    out: "the cluster was paused, and resumed by somebody else meanwhile\n",
  });
});

test("cluster pause and resume say so, and exit 69 naming live nodes that have not heard of it", async () => {
  await using api = await startApi();
  expect(await run(api, "cluster", "pause")).toMatchObject({ exitCode: 0, out: "the cluster is paused\n" });
  expect((await run(api, "cluster", "show")).out).toMatch(/paused: +yes\nnodes behind: -\n/);
  api.backend.cluster = { ...api.backend.cluster, behind: ["node-b"] };
  expect(await run(api, "cluster", "resume")).toMatchObject({
    exitCode: 69,
    out: "the cluster is resumed\nnot heard yet by: node-b\n",
  });
  expect(JSON.parse((await run(api, "cluster", "show", "--json")).out)).toMatchObject({ paused: false });
});

test("agents pause and resume, and the listing and the agent say that it is paused", async () => {
  await using api = await startApi();
  const agent = agentView({
    nodes: [
      {
        name: "node-a",
        state: "missing",
        since: null,
        roundTripMs: null,
        refusal: { reason: "the node drains", at: null },
      },
    ],
  });
  api.backend.agents.set(agent.id, agent);
  expect(await run(api, "agents", "pause", "web-01")).toMatchObject({ exitCode: 0, out: "web-01 is paused\n" });
  expect((await run(api, "agents", "list")).out).toContain("active, paused");
  expect((await run(api, "agents", "show", "web-01")).out).toMatch(
    /paused: +yes[^]*LAST REFUSAL\nnode-a +missing.*the node drains\n/,
  );
  expect(await run(api, "agents", "resume", "web-01")).toMatchObject({ out: "web-01 takes work\n" });
});

test("tasks retry makes a new attempt at an ended task; tasks top moves a queued one; else they fail with their code", async () => {
  await using api = await startApi();
  const task = api.backend.add(new FakeTask(taskView({ state: "queued" })));
  expect(await run(api, "tasks", "top", task.view.id)).toMatchObject({ exitCode: 0, out: "it is next on web-01\n" });
  expect(api.backend.moved).toEqual([task.view.id]);
  expect(await run(api, "tasks", "retry", task.view.id)).toMatchObject({
    exitCode: 1,
    err: expect.stringContaining("task.open"),
  });
  task.finish("failed", { exitCode: 3 });
  expect(await run(api, "tasks", "retry", task.view.id)).toMatchObject({
    exitCode: 0,
    out: expect.stringContaining("queued"),
  });
  task.enter("running");
  expect((await run(api, "tasks", "top", task.view.id)).exitCode).toBe(1);
});

test("run --no-wait and --wait and --high-priority reach the server as what they mean", async () => {
  await using api = await startApi();
  api.backend.add();
  await run(api, "run", "--detach", "--on", "web-01", "--no-wait", "--high-priority", "--", "true");
  await run(api, "run", "--detach", "--on", "web-01", "--wait", "2m", "--", "true");
  await run(api, "run", "--detach", "--on", "web-01", "--", "true");
  expect(
    api.backend.submits.map(({ submit: { ifOffline, priority, queueTimeoutMs } }) => [
      ifOffline,
      priority,
      queueTimeoutMs,
    ]),
  ).toEqual([
    ["refuse", "high", undefined],
    [undefined, undefined, 120_000],
    [undefined, undefined, undefined],
  ]);
});

test("a wait the server would refuse is refused by the option's own name, before anything is sent", async () => {
  await using api = await startApi();
  api.backend.add();
  for (const wait of ["0s", "999ms", "31d"]) {
    const refused = await run(api, "run", "--on", "web-01", "--wait", wait, "--", "true");
    expect(refused).toMatchObject({
      exitCode: 2,
      err: expect.stringMatching(/--wait: expected 1s to 30d[^]*--no-wait/),
    });
  }
  const queued = await run(api, "run", "--on", "web-01", "--queue-timeout", "1ms", "--", "true");
  expect(queued.err).toContain("--queue-timeout: expected 1s to 30d");
  expect(api.backend.submits).toEqual([]);
});
