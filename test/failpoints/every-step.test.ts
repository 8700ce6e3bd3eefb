// Every step of shared/steps.ts that agents and nodes come by, and at each of them a death, a stop and a lost connection
// (RELIABILITY faults 1–7, 9, 19–24, 58, 68): real processes, and the truth is what the scripts wrote themselves.
// A seeded part of them by default; HOLDFAST_EVERY_STEP=1 does all, HOLDFAST_STEPS=greet those of that name.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Program, RunningServer } from "../../demo/processes.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import { systemClock, type Timer } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import { isFinal } from "../../shared/task.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { Failpoints, type FailpointAction, type Harm } from "../harness/failpoints.ts";
import { pidsWith } from "../harness/process.ts";
import { queryRows } from "../harness/query.ts";
import { startsIn } from "../harness/script-truth.ts";
import { Supervised } from "../harness/supervised.ts";

const everyStep = process.env["HOLDFAST_EVERY_STEP"] === "1";
/** Only steps whose name holds this. */
const only = process.env["HOLDFAST_STEPS"] ?? "";
const seed = Number(process.env["HOLDFAST_SEED"] ?? 1);
const agentNames = ["web-01", "web-02", "web-03"] as const;
const lines = 12;
/** Rounds in which a step may be missed: which node an attempt comes through is chance. */
const triesAtMost = 5;

let cluster: TestCluster;
let nodes: Supervised[];
let agents: Supervised[];
let tending: Timer;
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
  // Also while a request waits for a node that was stopped.
  tending = systemClock.every(50, () => everybody().forEach((process) => process.tend()));
}, 120_000);
afterAll(async () => {
  tending.cancel();
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
      const view = await cluster.task(id);
      return { done: isFinal(view.state), state: view };
    },
    { limitMs: 90_000 },
  );
}

async function endsRight(work: Work): Promise<void> {
  // Running, or about to: both are worth a cancel.
  await eventually("the second script runs, or a moment has passed", () => {
    return { done: startsIn(work.ended.truth) > 0, state: work };
  });
  await eventually("the cancel is recorded", async () => {
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

/** What has to happen besides the work for some steps to be come by. */
type Occasion = "new-agent" | "registration" | "address-changes" | "agent-restarts" | "home-moves";
/** In this order: guests need nodes that live. */
const occasions: Readonly<Record<Occasion, RegExp>> = {
  // Once in a certificate's life.
  "new-agent": /certificate-used/,
  // Its probe greets every node.
  registration: /greet-read/,
  "address-changes": /(?:sending|sent|received) nodes/,
  "agent-restarts": /greet-admit|adopt/,
  "home-moves": /resume|recording home/,
};
const occasionsOf = (due: readonly Due[]): Occasion[] =>
  (Object.keys(occasions) as Occasion[]).filter((occasion) =>
    due.some(({ harm }) => occasions[occasion].test(harm.step)),
  );

/** Beside those it is provoked for, which must live until they come by their step. */
function othersThan(due: readonly Due[], occasion: Occasion, among: readonly Supervised[]): Supervised[] {
  const spared = due.filter(({ harm }) => occasions[occasion].test(harm.step)).map(({ process }) => process);
  const left = among.filter((process) => !spared.includes(process));
  return left.length > 0 ? left : [...among];
}

/** Waits until the steps of an occasion are come by, or a moment has passed. */
async function comeBy(due: readonly Due[], occasion: Occasion): Promise<void> {
  const wanted = due.filter(({ harm }) => occasions[occasion].test(harm.step));
  const endMs = performance.now() + 3_000;
  await eventually("its steps are come by, or a moment has passed", () => ({
    done: wanted.every(hasFired) || performance.now() > endMs,
    state: wanted.map(describeDue),
  }));
}

async function provoke(occasion: Occasion, due: readonly Due[]): Promise<void> {
  switch (occasion) {
    case "home-moves": {
      for (const node of othersThan(due, occasion, nodes)) node.kill();
      // An attempt that ends at once has no log left for another home.
      await comeBy(due, occasion);
      return;
    }
    case "agent-restarts": {
      const wanted = agents.filter((agent) =>
        due.some(({ process, harm }) => process === agent && /adopt/.test(harm.step)),
      );
      for (const agent of wanted.length > 0 ? wanted : agents) agent.kill();
      return;
    }
    case "address-changes": {
      const guest = await cluster.startServer({
        name: "node-d",
        databaseUrl: await cluster.databaseUrl(),
        masterKeyFile: join(cluster.serverData, "master.key"),
      });
      cluster.servers.splice(cluster.servers.indexOf(guest), 1);
      await guest.program.stop();
      return;
    }
    case "new-agent": {
      const fresh = await cluster.startAgentAmong({ name: `fresh-${rounds}` });
      await eventually("it has greeted whoever is up", async () => {
        const { nodes: seen } = await cluster.client.agents.show(fresh.name);
        return { done: seen.some(({ state }) => state === "connected"), state: seen };
      });
      // It goes on to the others by itself.
      await comeBy(due, occasion);
      await fresh.program.stop();
      return;
    }
    case "registration": {
      const { token } = await cluster.client.tokens.create({});
      const place = ["--name", `guest-${rounds}`, "--data-dir", join(cluster.folder, `guest-${rounds}`)];
      await cluster.cli("agent", "register", "--server", cluster.server.url, "--token", token, "--all-nodes", ...place);
    }
  }
}

async function round(wanted: readonly Occasion[], due: readonly Due[] = []): Promise<void> {
  rounds += 1;
  const works = await Promise.all(agentNames.map((name, no) => begin(name, rounds + no)));
  if (wanted.length > 0)
    await eventually("every second script runs", () => {
      return { done: works.every((work) => startsIn(work.ended.truth) > 0), state: works };
    });
  for (const occasion of wanted) await provoke(occasion, due);
  await Promise.all(works.map((work) => endsRight(work)));
}

/** A node that died again and again is dialled after up to half a minute; an agent that starts dials at once. */
const patienceMs = 1_500;

async function allConnected(): Promise<void> {
  await eventually("every node serves", () => ({
    done: nodes.every(({ isUp }) => isUp),
    state: nodes.map(({ state }) => state),
  }));
  const upMs = performance.now();
  const started = new Set<Supervised>();
  for (const agent of agents) {
    await eventually(
      `${agent.role} has a session with each node`,
      async () => {
        const view = await cluster.client.agents.show(agent.role);
        const live = view.nodes.filter((node) => node.state === "connected" && node.name !== "node-d");
        const isDone = live.length === 3;
        if (!isDone && !started.has(agent) && performance.now() - upMs > patienceMs) {
          started.add(agent);
          agent.kill();
        }
        return { done: isDone, state: view };
      },
      { limitMs: 60_000 },
    );
  }
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

/**
 * What was not come by, although the work is done. A start brings the steps of a start, and those of a sweep some seconds
 * later; a step of the work that was missed does not stand in their way.
 */
async function comeByAtLast(due: readonly Due[]): Promise<void> {
  const left = due.filter((one) => one.isAtStart && !hasFired(one));
  const processes = [...new Set(left.map(({ process }) => process))];
  for (const process of processes) {
    process.armRest(left.filter((one) => one.process === process).map(({ harm }) => harm));
    process.kill();
  }
  if (processes.length === 0) return;
  // A greeting is a step of a node's start, and agents dial at once when they start themselves.
  if (processes.some((process) => nodes.includes(process))) for (const agent of agents) agent.kill();
  // A sweep comes five seconds after a start, which may take some itself, and what it brings may be another start.
  const most = Math.max(...processes.map((process) => left.filter((one) => one.process === process).length));
  const endMs = performance.now() + 10_000 + 8_000 * most;
  await eventually(
    "who did not come by its step has started again",
    () => {
      const isOver = left.every(hasFired) || performance.now() > endMs;
      return { done: isOver && processes.every(({ isUp }) => isUp), state: processes.map(({ state }) => state) };
    },
    { limitMs: 60_000 },
  );
}

/** What one kind of process is in for. */
interface Queue {
  readonly processes: readonly Supervised[];
  /** At steps that the work brings, in the order in which it does. */
  readonly working: Harm[];
  /** How many of them a process meets in a round: after the first, a node's work goes elsewhere, an agent's goes on. */
  readonly perRound: 1 | 2;
  /** At steps that a start or time brings, come by when the process is back: then a round costs little more with them. */
  readonly starting: Harm[];
}

interface Due {
  readonly process: Supervised;
  readonly harm: Harm;
  readonly isAtStart: boolean;
  /** Where it waits for another round when it was not come by. */
  readonly list: Harm[];
}

const hasFired = ({ process, harm }: Due): boolean => process.failpoints.hasFired(harm);
const describeDue = ({ process, harm }: Due): string => `${process.role}: ${harm.action} ${harm.step}`;
/** Once a minute and at no start: no round waits for it, and the next minute does it again. */
const seldom = /settle-presence|read-agent-slots/;
/** Once every few seconds, the first of them some seconds after a start. */
const soonAfterStart = ["sweep-expire", "sweep-unreachable", "sweep-other-journal", "read-distrusted"].map(
  (statement) => `answered ${statement}`,
);
/** Rounds of its own for a step that was missed in company. */
const triesAlone = 4;
const stepsOf = (processes: readonly Supervised[]): string[] =>
  [...new Set(processes.flatMap(({ failpoints }) => failpoints.steps))].filter(
    (step) => !seldom.test(step) && step.includes(only),
  );

function queueOf({ processes, perRound }: Pick<Queue, "processes" | "perRound">, startSteps: readonly string[]): Queue {
  const isAtStart = ({ step }: Harm): boolean =>
    startSteps.includes(step) && Object.values(occasions).every((pattern) => !pattern.test(step));
  const harms = harmsOf(stepsOf(processes));
  const working = harms.filter((harm) => !isAtStart(harm));
  return { processes, perRound, working, starting: harms.filter(isAtStart) };
}

/** What this round is to bring to each process, in this order. */
function takeDue({ processes, perRound, working, starting }: Queue): Due[] {
  const roundsLeft = Math.ceil(working.length / (perRound * processes.length));
  const startingPerRound = Math.min(3, Math.ceil(starting.length / (Math.max(1, roundsLeft) * processes.length)));
  return processes.flatMap((process) => {
    const early = working.splice(0, 1);
    const late = perRound === 1 ? [] : working.splice(Math.floor(working.length / 2), 1);
    return [
      ...[...early, ...late].map((harm) => ({ process, harm, isAtStart: false, list: working })),
      ...starting.splice(0, startingPerRound).map((harm) => ({ process, harm, isAtStart: true, list: starting })),
    ];
  });
}

/** Rounds in which nobody else is harmed. */
async function comesByAlone(one: Due): Promise<boolean> {
  for (let tried = 0; tried < triesAlone && !hasFired(one); tried += 1) {
    await allConnected();
    one.process.arm([one.harm]);
    await round(occasionsOf([one]), [one]).then(() => comeByAtLast([one]));
    for (const process of everybody()) process.disarm();
  }
  return hasFired(one);
}

it("every step survives a death, a stop and a lost connection: one start, the whole log, the right end", async () => {
  await allConnected();
  // On a quick machine all are connected before the looks come that follow a start by some seconds.
  await eventually("each node has looked round after its start", () => {
    const missing = nodes.flatMap(({ role, failpoints }) =>
      soonAfterStart.filter((step) => !failpoints.steps.includes(step)).map((step) => `${role}: ${step}`),
    );
    return { done: missing.length === 0, state: missing };
  });
  const startSteps = [...stepsOf(nodes), ...stepsOf(agents)];
  // What there is to come by.
  await round(["address-changes", "home-moves"]);
  await allConnected();
  await round(["registration", "agent-restarts", "home-moves"]);
  const queues = [
    queueOf({ processes: nodes, perRound: 1 }, startSteps),
    queueOf({ processes: agents, perRound: 2 }, startSteps),
  ];
  const sizes = queues.map(({ working, starting }) => working.length + starting.length);
  const tries = new Map<Harm, number>();
  const missed: Due[] = [];
  let fired = 0;
  while (queues.some(({ working, starting }) => working.length + starting.length > 0)) {
    await allConnected();
    const due = queues.flatMap(takeDue);
    for (const process of everybody())
      process.arm(due.filter((one) => one.process === process).map(({ harm }) => harm));
    const said = due.map(describeDue).join(", ");
    await round(occasionsOf(due), due)
      .then(() => comeByAtLast(due))
      .catch((cause: unknown) => {
        throw new Error(`round ${rounds} (${said}), seed ${seed}: ${AppError.from(cause).message}`, { cause });
      });
    for (const process of everybody()) process.disarm();
    for (const one of due) {
      const tried = (tries.get(one.harm) ?? 0) + 1;
      tries.set(one.harm, tried);
      if (hasFired(one)) fired += 1;
      else if (tried < triesAtMost) one.list.unshift(one.harm);
      else missed.push(one);
    }
    if (everyStep) process.stdout.write(`round ${rounds}, ${Math.round(performance.now() / 1_000)} s: ${said}\n`);
  }
  // What others' deaths let pass comes by when nobody else is harmed.
  const never: Due[] = [];
  for (const one of missed) {
    if (await comesByAlone(one)) fired += 1;
    else never.push(one);
  }
  if (missed.length > 0) process.stdout.write(`  come by alone: ${missed.map(describeDue).join(", ")}\n`);
  const restarts = everybody().reduce((sum, { restarts: count }) => sum + count, 0);
  process.stdout.write(
    `failpoints: ${sizes.join(" + ")} harms (nodes + agents) in ${rounds} rounds, ${fired} fired, ${restarts} restarts, seed ${seed}\n`,
  );
  expect(never.map(describeDue)).toEqual([]);
  const [row] = await queryRows(await cluster.databaseUrl(), "select count(*)::int as count from task");
  expect(row?.["count"]).toBe(submitted);
}, 3_600_000);
