// Every step of shared/steps.ts that agents and nodes come by, and at each of them a death, a stop and a lost connection
// (RELIABILITY faults 1–7, 9, 19–24, 58, 68): real processes, and the truth is what the scripts wrote themselves.
// A seeded part of them by default; HOLDFAST_EVERY_STEP=1 does all.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Program, RunningServer } from "../../demo/processes.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import { AppError } from "../../shared/errors.ts";
import { isFinal } from "../../shared/task.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { Failpoints, type FailpointAction } from "../harness/failpoints.ts";
import { pidsWith } from "../harness/process.ts";
import { queryRows } from "../harness/query.ts";
import { startsIn } from "../harness/script-truth.ts";
import { Supervised } from "../harness/supervised.ts";

const everyStep = process.env["HOLDFAST_EVERY_STEP"] === "1";
const seed = Number(process.env["HOLDFAST_SEED"] ?? 1);
const agentNames = ["web-01", "web-02", "web-03"] as const;
const lines = 12;

let cluster: TestCluster;
let nodes: Supervised[];
let agents: Supervised[];
let rounds = 0;
let submitted = 0;

beforeAll(async () => {
  // The first node is never harmed: through it the outcome is read.
  cluster = await TestCluster.start();
  nodes = [];
  for (const name of ["node-b", "node-c"]) nodes.push(await harmedNode(name));
  agents = [];
  for (const name of agentNames) {
    const failpoints = new Failpoints(cluster.folder, name);
    const agent = await cluster.startAgent({ name, environment: { ...failpoints.environment, PATH: "/usr/bin:/bin" } });
    agents.push(harmedAgent(agent, failpoints));
  }
}, 120_000);
afterAll(async () => {
  // A node that was ended while it started is in no list.
  for (const process of [...nodes, ...agents]) process.kill();
  await cluster.stop();
});

async function harmedNode(name: string): Promise<Supervised> {
  const failpoints = new Failpoints(cluster.folder, name);
  const databaseUrl = await cluster.databaseUrl();
  let program: Program | undefined;
  const start = (earlier?: RunningServer): Promise<RunningServer> =>
    cluster.startServer({
      name,
      onProgram: (started) => {
        program = started;
      },
      databaseUrl,
      masterKeyFile: join(cluster.serverData, "master.key"),
      environment: failpoints.environment,
      ...(earlier === undefined ? {} : { apiPort: Number(new URL(earlier.url).port), agentPort: earlier.agentPort }),
    });
  let server = await start();
  return new Supervised({
    role: name,
    failpoints,
    program: () => program ?? server.program,
    async again() {
      const earlier = server;
      // Gone from the list already when a start of it failed.
      const at = cluster.servers.indexOf(earlier);
      if (at >= 0) cluster.servers.splice(at, 1);
      server = await start(earlier);
    },
  });
}

function harmedAgent(agent: TestAgent, failpoints: Failpoints): Supervised {
  return new Supervised({
    role: agent.name,
    failpoints,
    program: () => agent.program,
    again() {
      cluster.startAgentAgain(agent);
      return Promise.resolve();
    },
  });
}

const everybody = (): Supervised[] => [...nodes, ...agents];
const tend = (): void => everybody().forEach((process) => process.tend());

/** Submits under one key: first through the harmed nodes in turn, so that their steps are come by, then through whoever answers. */
async function submit(
  no: number,
  on: string,
  what: { readonly script: string; readonly interpreter?: "pwsh" },
): Promise<string> {
  submitted += 1;
  const idempotencyKey = `round-${rounds}-${on}-${submitted}`;
  let tries = 0;
  return await eventually("the task is accepted", async () => {
    tend();
    const [first, ...harmed] = cluster.servers;
    const servers = [...harmed, ...harmed, first];
    const server = servers[(no + tries) % servers.length] ?? cluster.server;
    tries += 1;
    const client = new Holdfast({ url: server.url, apiKey: cluster.apiKey, retryForMs: 500 });
    const handle = await client
      .run({ on, ...what, idempotencyKey, graceMs: 500 })
      .catch((cause: unknown) => AppError.from(cause));
    if (handle instanceof AppError) return { done: false, state: handle.message };
    const id = handle.tasks[0]?.id;
    return { done: id !== undefined, state: id ?? "" };
  });
}

interface Work {
  readonly on: string;
  readonly counted: { readonly id: string; readonly truth: string };
  readonly ended: { readonly id: string; readonly truth: string };
  readonly refused: string;
}

async function begin(on: string, no: number): Promise<Work> {
  const truthOf = (what: string): string => join(cluster.folder, `truth-${rounds}-${on}-${what}`);
  const [counted, ended] = [truthOf("counted"), truthOf("ended")];
  const start = (truth: string): string => `echo "start $HOLDFAST_ATTEMPT_ID" >> '${truth}'`;
  const counting = `${start(counted)}; for i in $(seq ${lines}); do echo "out $i"; echo "err $i" > /dev/stderr; sleep 0.02; done; exit 3`;
  const [countedId, endedId, refused] = await Promise.all([
    submit(no % 2, on, { script: counting }),
    submit((no + 1) % 2, on, { script: `${start(ended)}; echo up; sleep 60` }),
    submit(no % 2, on, { script: "true", interpreter: "pwsh" }),
  ]);
  return { on, counted: { id: countedId, truth: counted }, ended: { id: endedId, truth: ended }, refused };
}

async function text(id: string, stream: "out" | "err"): Promise<string> {
  let read = "";
  for await (const bytes of cluster.client.tasks.log(id, { stream })) read += Buffer.from(bytes).toString();
  return read;
}

async function finalState(id: string): Promise<Awaited<ReturnType<typeof cluster.task>>> {
  return await eventually(
    `task ${id} is final`,
    async () => {
      tend();
      const view = await cluster.task(id);
      return { done: isFinal(view.state), state: view };
    },
    { limitMs: 90_000 },
  );
}

async function endsRight(work: Work): Promise<void> {
  // Running, or about to: both are worth a cancel.
  await eventually("the second script runs, or a moment has passed", () => {
    tend();
    return { done: startsIn(work.ended.truth) > 0, state: work };
  });
  await eventually("the cancel is recorded", async () => {
    tend();
    await cluster.client.tasks.cancel(work.ended.id);
    return { done: true, state: work };
  });
  const counted = await finalState(work.counted.id);
  expect(counted).toMatchObject({ state: "failed", exitCode: 3, attempts: [{ number: 1 }] });
  expect(counted.attempts).toHaveLength(1);
  expect(startsIn(work.counted.truth)).toBe(1);
  const numbered = (stream: string): string =>
    Array.from({ length: lines }, (_, at) => `${stream} ${at + 1}\n`).join("");
  expect(await text(work.counted.id, "out")).toBe(numbered("out"));
  expect(await text(work.counted.id, "err")).toBe(numbered("err"));
  const ended = await finalState(work.ended.id);
  expect(ended).toMatchObject({ state: "cancelled" });
  expect(startsIn(work.ended.truth)).toBe(1);
  await eventually(
    "nothing of the cancelled attempt lives",
    () => {
      const left = processesOf(work.ended.truth);
      return { done: left.length === 0, state: left };
    },
    { limitMs: 2_000 },
  );
  expect(await finalState(work.refused)).toMatchObject({ state: "refused", exitCode: null });
}

/** Processes of the attempt that wrote this truth, as `ps` shows them. */
function processesOf(truth: string): string[] {
  const id = /^start (\S+)/.exec(readFileSync(truth, "utf8"))?.[1] ?? "";
  return pidsWith(id).flatMap((pid) => {
    const { stdout } = spawnSync("ps", ["-o", "pid=,ppid=,stat=,etime=,wchan=,args=", "-p", String(pid)], {
      encoding: "utf8",
    });
    return stdout === "" ? [] : [stdout.trim()];
  });
}

async function round(): Promise<void> {
  rounds += 1;
  const works = await Promise.all(agentNames.map((name, no) => begin(name, rounds + no)));
  await Promise.all(works.map((work) => endsRight(work)));
}

async function allConnected(): Promise<void> {
  for (const name of agentNames) {
    await eventually(
      `${name} has a session with each node`,
      async () => {
        tend();
        const view = await cluster.client.agents.show(name);
        const live = view.nodes.filter((node) => node.state === "connected");
        return { done: live.length === 3, state: view };
      },
      { limitMs: 60_000 },
    );
  }
}

interface Harm {
  readonly step: string;
  readonly action: FailpointAction;
}

/** Each step of a kind of process with each action; by default a seeded part of that, in which every statement and frame dies. */
function harmsOf(steps: readonly string[]): Harm[] {
  const of = (action: FailpointAction) => (step: string) => ({ step, action });
  if (everyStep) return (["kill", "stop", "drop"] as const).flatMap((action) => steps.map(of(action)));
  // Before a statement or after it, by the seed: each of them in two runs.
  const turn = seed % 2 === 0 ? "asking " : "answered ";
  const kills = steps.filter((step) => !/^(asking|answered) /.test(step) || step.startsWith(turn));
  const others = steps.filter((_, at) => (at * 7 + seed) % 9 === 0);
  return [...kills.map(of("kill")), ...others.map(of(seed % 3 === 0 ? "stop" : "drop"))];
}

/** Steps of a start are come by when it starts, those of a sweep every few seconds. */
async function comeByAtLast(late: readonly { readonly process: Supervised; readonly harm: Harm }[]): Promise<void> {
  const periodic = late.filter(({ harm }) => /sweep|beat|feed|cancels|distrusted|known-work/.test(harm.step));
  const endMs = performance.now() + 6_000;
  await eventually("what comes by itself has come by", () => {
    tend();
    const isOver = periodic.every(({ process }) => process.failpoints.hasFired) || performance.now() > endMs;
    return { done: isOver, state: periodic.map(({ harm }) => harm.step) };
  });
  const atStart = late.filter(({ process }) => !process.failpoints.hasFired);
  const before = atStart.map(({ process }) => process.restarts);
  for (const { process } of atStart) process.kill();
  await eventually("who did not come by its step has started again", () => {
    tend();
    return {
      done: atStart.every(({ process }, no) => process.restarts > (before[no] ?? 0) && process.isUp),
      state: atStart.map(({ process }) => process.role),
    };
  });
  if (atStart.length > 0) await allConnected();
}

it("every step survives a death, a stop and a lost connection: one start, the whole log, the right end", async () => {
  await round();
  for (const process of everybody()) process.kill();
  await allConnected();
  await round();
  const queues = [
    { processes: nodes, harms: harmsOf([...new Set(nodes.flatMap(({ failpoints }) => failpoints.steps))]) },
    { processes: agents, harms: harmsOf([...new Set(agents.flatMap(({ failpoints }) => failpoints.steps))]) },
  ];
  const steps = queues.map(({ harms }) => harms.length);
  const fired = { node: 0, agent: 0 };
  const tries = new Map<Harm, number>();
  const missed: string[] = [];
  while (queues.some(({ harms }) => harms.length > 0)) {
    await allConnected();
    const due = queues.flatMap(({ processes, harms }) =>
      processes.flatMap((process) => {
        const harm = harms.shift();
        return harm === undefined ? [] : [{ process, harms, harm }];
      }),
    );
    for (const { process, harm } of due) process.arm(harm.step, harm.action);
    const said = due.map(({ process, harm }) => `${process.role}: ${harm.action} ${harm.step}`).join(", ");
    await round().catch((cause: unknown) => {
      throw new Error(`round ${rounds} (${said}), seed ${seed}: ${AppError.from(cause).message}`, { cause });
    });
    const late = due.filter(({ process }) => !process.failpoints.hasFired);
    await comeByAtLast(late.map(({ process, harm }) => ({ process, harm })));
    for (const { process, harms, harm } of due) {
      process.disarm();
      const tried = (tries.get(harm) ?? 0) + 1;
      tries.set(harm, tried);
      if (process.failpoints.hasFired) fired[nodes.includes(process) ? "node" : "agent"] += 1;
      else if (tried < 3) harms.push(harm);
      else missed.push(`${process.role}: ${harm.action} ${harm.step}`);
    }
  }
  const restarts = everybody().reduce((sum, { restarts: count }) => sum + count, 0);
  process.stdout.write(
    `failpoints: ${steps.join(" + ")} harms (nodes + agents) in ${rounds} rounds, ${fired.node} + ${fired.agent} fired, ${restarts} restarts, seed ${seed}\n${missed.map((line) => `  not come by: ${line}\n`).join("")}`,
  );
  const [row] = await queryRows(await cluster.databaseUrl(), "select count(*)::int as count from task");
  expect(row?.["count"]).toBe(submitted);
  // Frames that only a change of membership brings may be missed.
  expect(fired.node + fired.agent).toBeGreaterThan(0.9 * ((steps[0] ?? 0) + (steps[1] ?? 0)));
}, 1_800_000);
