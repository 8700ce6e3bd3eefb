// Two nodes on one database, one agent connected to both: a script goes on whatever becomes of the node it came through.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RunningServer } from "../../demo/processes.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import type { RunHandle } from "../../sdk/run-handle.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { queryRows } from "../harness/query.ts";
import { countedLines, countingScript, startsIn } from "../harness/script-truth.ts";

let cluster: TestCluster;
let web: TestAgent;
let second: RunningServer;
let truths = 0;

beforeAll(async () => {
  cluster = await TestCluster.start();
  second = await startSecond();
  web = await cluster.startAgent({ name: "web-01" });
});
afterAll(async () => {
  await cluster.stop();
});

/** The second node, on the database and with the master key of the first; on its old ports when it had some. */
async function startSecond(): Promise<RunningServer> {
  const [, earlier] = cluster.servers;
  const ports =
    earlier === undefined ? {} : { apiPort: Number(new URL(earlier.url).port), agentPort: earlier.agentPort };
  const server = await cluster.startServer({
    name: "node-b",
    databaseUrl: await cluster.databaseUrl(),
    masterKeyFile: join(cluster.serverData, "master.key"),
    ...ports,
  });
  if (earlier !== undefined) cluster.servers.splice(1, 1);
  return server;
}

const through = (server: RunningServer): Holdfast => new Holdfast({ url: server.url, apiKey: cluster.apiKey });

interface Counted {
  readonly handle: RunHandle;
  readonly id: string;
  readonly truth: string;
  readonly count: number;
}

/** A script offered by the node it is submitted to, and followed through the first node. */
async function counting(server: RunningServer, count: number): Promise<Counted> {
  // A session that was opened just now may not have been asked for work yet: then the other node is as quick.
  await eventually("work submitted to the second node comes through it", async () => {
    const [task] = await (await through(server).submit({ on: "web-01", spec: { kind: "no-op" } })).results();
    return { done: task?.attempts[0]?.home === "node-b", state: task };
  });
  const truth = join(cluster.folder, `truth-${(truths += 1)}`);
  const submitted = await through(server).run({
    on: "web-01",
    script: countingScript(truth, { count, pauseSeconds: 0.1 }),
  });
  const id = submitted.tasks[0]?.id ?? "";
  await eventually("the script runs", () => ({ done: startsIn(truth) === 1, state: startsIn(truth) }));
  return { handle: await cluster.client.tasks.follow(id), id, truth, count };
}

async function homeOf(id: string): Promise<string | null> {
  return (await cluster.task(id)).home;
}

async function expectHome(id: string, name: string): Promise<void> {
  await eventually(`the log of ${id} flows through ${name}`, async () => {
    const home = await homeOf(id);
    return { done: home === name, state: home };
  });
}

/** The log as it arrives, with the longest pause between two pieces. */
async function followWhole({ handle, id, truth, count }: Counted): Promise<{ readonly longestPauseMs: number }> {
  let text = "";
  let lastMs = performance.now();
  let longestPauseMs = 0;
  for await (const piece of handle.bytes()) {
    if (!("bytes" in piece)) throw new Error(`${piece.omitted} bytes were omitted`);
    text += Buffer.from(piece.bytes).toString();
    longestPauseMs = Math.max(longestPauseMs, performance.now() - lastMs);
    lastMs = performance.now();
  }
  expect(text).toBe(countedLines(count));
  expect(await cluster.finished(id)).toMatchObject({ state: "succeeded", exitCode: 0, attempts: [{ number: 1 }] });
  expect(startsIn(truth)).toBe(1);
  return { longestPauseMs };
}

describe("an agent registered with --all-nodes", () => {
  it("has a session with each node and shows both", async () => {
    const view = await cluster.client.agents.show("web-01");
    expect(view.nodes.map((node) => `${node.name} ${node.state}`).toSorted()).toEqual([
      "node-a connected",
      "node-b connected",
    ]);
    const nodes = await cluster.client.nodes.list();
    expect(nodes.items.map((node) => `${node.name} ${node.state} ${node.sessions}`).toSorted()).toEqual([
      "node-a live 1",
      "node-b live 1",
    ]);
  });

  it("runs what is submitted through either node once, and either node shows it", async () => {
    const truth = join(cluster.folder, "truth-both");
    const script = `echo "start $HOLDFAST_ATTEMPT_ID" >> '${truth}'; echo $HOLDFAST_TASK_ID`;
    const nodes = [through(cluster.server), through(second)] as const;
    const handles = await Promise.all(
      Array.from({ length: 60 }, (_, no) => (nodes[no % 2] ?? nodes[0]).run({ on: "web-01", script })),
    );
    for (const handle of handles) expect(await handle.result()).toMatchObject({ state: "succeeded" });
    expect(startsIn(truth)).toBe(60);
    for (const [no, handle] of handles.slice(0, 6).entries()) {
      const other = nodes[(no + 1) % 2] ?? nodes[0];
      const id = handle.tasks[0]?.id ?? "";
      let text = "";
      for await (const bytes of other.tasks.log(id)) text += Buffer.from(bytes).toString();
      expect(text).toBe(`${id}\n`);
    }
  });

  it("gives the same tasks to one idempotency key on both nodes", async () => {
    const submit = (server: RunningServer) =>
      through(server).run({ on: "web-01", script: "true", idempotencyKey: "both-nodes" });
    const handles = await Promise.all([submit(cluster.server), submit(second), submit(cluster.server), submit(second)]);
    expect(new Set(handles.map((handle) => handle.tasks[0]?.id)).size).toBe(1);
    expect(handles.filter((handle) => !handle.repeated)).toHaveLength(1);
    expect(await handles[0]?.result()).toMatchObject({ succeeded: true });
  });
});

describe("the home node of a running script", () => {
  it("killed -9 hands over to the other: the log goes on within a second, without a gap", async () => {
    const script = await counting(second, 60);
    await expectHome(script.id, "node-b");
    const whole = followWhole(script);
    second.program.kill("SIGKILL");
    await second.program.exited;
    await expectHome(script.id, "node-a");
    const { longestPauseMs } = await whole;
    process.stdout.write(`home killed: the log paused for ${longestPauseMs.toFixed(0)} ms at most\n`);
    // Promise 4.
    expect(longestPauseMs).toBeLessThan(1_000);
    second = await startSecond();
    await cluster.connected("web-01");
  });

  it("ended by TERM exits 0 and hands over; the script does not notice", async () => {
    const script = await counting(second, 60);
    await expectHome(script.id, "node-b");
    const whole = followWhole(script);
    second.program.kill("SIGTERM");
    expect(await second.program.exited).toBe(0);
    const { longestPauseMs } = await whole;
    process.stdout.write(`home ended by TERM: the log paused for ${longestPauseMs.toFixed(0)} ms at most\n`);
    expect(longestPauseMs).toBeLessThan(1_000);
    second = await startSecond();
    await cluster.connected("web-01");
  });

  it("standing still for 60 s loses the home within 30 s, and changes nothing when it goes on", async () => {
    const script = await counting(second, 700);
    await expectHome(script.id, "node-b");
    const whole = followWhole(script);
    second.program.kill("SIGSTOP");
    const stoppedMs = performance.now();
    try {
      await eventually(
        "another node is home",
        async () => ({ done: (await homeOf(script.id)) === "node-a", state: await homeOf(script.id) }),
        { limitMs: 40_000 },
      );
      const movedMs = performance.now() - stoppedMs;
      process.stdout.write(`home stopped: moved after ${(movedMs / 1_000).toFixed(1)} s\n`);
      expect(movedMs).toBeLessThan(30_000);
      const during = await cluster.client.run({ on: "web-01", script: "exit 7" });
      expect(await during.result()).toMatchObject({ exitCode: 7 });
      await eventually(
        "60 s have passed",
        () => ({ done: performance.now() - stoppedMs > 60_000, state: performance.now() - stoppedMs }),
        { limitMs: 65_000 },
      );
    } finally {
      second.program.kill("SIGCONT");
    }
    // The agent has dialled in vain for a while: its pause may have grown to 30 s, and a dial that had begun takes 10 s.
    await cluster.connected("web-01", { limitMs: 75_000 });
    expect(await homeOf(script.id)).toBe("node-a");
    await whole;
    expect(second.program.isRunning).toBe(true);
    const after = await through(second).run({ on: "web-01", script: "exit 8" });
    expect(await after.result()).toMatchObject({ exitCode: 8 });
  });

  it("leaves nothing open behind: every task of this file is final with one attempt", async () => {
    const open = await queryRows(
      await cluster.databaseUrl(),
      "select task_id, state, number from attempt where rank < 9 or number > 1 or state not in ('succeeded', 'failed')",
    );
    expect(open).toEqual([]);
    expect(web.program.isRunning).toBe(true);
  });
});
