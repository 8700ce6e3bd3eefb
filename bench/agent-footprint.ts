// What an agent costs its machine: memory and CPU while idle, memory with 50 scripts that run, and how long after its start it
// dials. Asked of the single executable, as the installer puts it on a target, and beside it of the sources under Node.
// Floors of the same run: an empty Node process, its memory and its start.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { Program } from "../demo/processes.ts";
import { buildAgent } from "../scripts/build-agent.ts";
import { ownVersion } from "../shared/version.ts";
import { startBenchCluster } from "./cluster.ts";
import { quantiles, repeated, repeatsAsked, runningMs, type Quantiles } from "./measure.ts";
import { report, round } from "./result.ts";

const idleMs = 20_000;
const scripts = 50;
const starts = 10;

/** `RssAnon` is what is its own; the rest are pages of files that the system shares and can take back. */
function memoryMiB(pid: number, what: "VmRSS" | "RssAnon" = "VmRSS"): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return round(Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) / 1_024);
}

/**
 * As a host has the file when it was read in from its disk. Just written it lies in large pieces, of which each touch makes
 * far more resident (35 MiB).
 */
function readAnew(file: string): void {
  spawnSync("sync", [file]);
  spawnSync("dd", [`if=${file}`, "iflag=nocache", "count=0"]);
}

async function emptyNode() {
  const child = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1e6)"], { stdio: "ignore" });
  await pause(2_000);
  const [idleMiB, idleOwnMiB] = [memoryMiB(child.pid ?? 0), memoryMiB(child.pid ?? 0, "RssAnon")];
  child.kill("SIGKILL");
  const startMs = Array.from({ length: starts }, () => {
    const beganMs = performance.now();
    spawnSync(process.execPath, ["-e", "0"]);
    return performance.now() - beganMs;
  });
  return { idleMiB, idleOwnMiB, startMs: quantiles(startMs) };
}

interface Footprint {
  readonly idleMiB: number;
  readonly idleOwnMiB: number;
  readonly percentOfACoreIdle: number;
  readonly withScriptsMiB: number;
  readonly startToFirstDialMs: Quantiles;
}

async function agentOfItsOwn(own: { readonly executable?: string }): Promise<Footprint> {
  const cluster = await startBenchCluster(1, own);
  const [agent] = cluster.agents;
  if (agent === undefined) throw new Error("there is an agent");
  try {
    await pause(10_000);
    const before = runningMs(agent.pid);
    await pause(idleMs);
    const idleCpu = (runningMs(agent.pid) - before) / idleMs;
    const [idleMiB, idleOwnMiB] = [memoryMiB(agent.pid), memoryMiB(agent.pid, "RssAnon")];
    await cluster.client.agents.set("agent-0", { slots: scripts });
    const spec = { kind: "script" as const, interpreter: "sh", script: "echo up; exec sleep 600" };
    const run = await cluster.client.submit({
      tasks: Array.from({ length: scripts }, () => ({ on: "agent-0", spec })),
    });
    for (;;) {
      const { items } = await cluster.client.tasks.list({ state: "running", limit: 200 });
      if (items.length === scripts) break;
      await pause(200);
    }
    await pause(5_000);
    const withScriptsMiB = memoryMiB(agent.pid);
    await run.cancel();
    await run.results();

    // Its node is gone; whoever listens at the node's address sees the first dial.
    await agent.stop();
    await cluster.server.program.stop();
    const port = createServer((socket) => socket.destroy());
    port.listen(cluster.server.agentPort, "0.0.0.0");
    await once(port, "listening");
    const dialMs: number[] = [];
    for (let index = 0; index < starts; index += 1) {
      const dialled = once(port, "connection");
      const beganMs = performance.now();
      const args = ["agent", "run", "--data-dir", cluster.agentFolder("agent-0")];
      const again = new Program({ title: "agent", ...own, args });
      await dialled;
      dialMs.push(performance.now() - beganMs);
      await again.stop();
    }
    port.close();
    return {
      idleMiB,
      idleOwnMiB,
      percentOfACoreIdle: round(idleCpu * 100),
      withScriptsMiB,
      startToFirstDialMs: quantiles(dialMs),
    };
  } finally {
    await cluster.stop();
  }
}

const executable = await buildAgent({ version: ownVersion(), commit: undefined });
readAnew(executable);
const runs = await repeated(repeatsAsked(3), async () => ({
  floor: await emptyNode(),
  agent: await agentOfItsOwn({ executable }),
  sources: await agentOfItsOwn({}),
}));
const emptyMiB = { what: "an empty Node process", values: runs.map(({ floor }) => floor.idleMiB) };
report(
  "agent-footprint",
  [
    { question: "idle agent, resident", unit: "MiB", values: runs.map(({ agent }) => agent.idleMiB), floor: emptyMiB },
    {
      question: "idle agent, of it its own (anonymous)",
      unit: "MiB",
      values: runs.map(({ agent }) => agent.idleOwnMiB),
      floor: { what: "an empty Node process", values: runs.map(({ floor }) => floor.idleOwnMiB) },
    },
    {
      question: `agent with ${scripts} scripts that run, resident`,
      unit: "MiB",
      values: runs.map(({ agent }) => agent.withScriptsMiB),
      floor: emptyMiB,
    },
    { question: "idle agent, CPU", unit: "% of a core", values: runs.map(({ agent }) => agent.percentOfACoreIdle) },
    {
      question: "agent's start to its first dial, p50",
      unit: "ms",
      values: runs.map(({ agent }) => agent.startToFirstDialMs.p50),
      floor: { what: "an empty Node process starts and ends", values: runs.map(({ floor }) => floor.startMs.p50) },
    },
    {
      question: "idle agent from sources under Node, resident",
      unit: "MiB",
      values: runs.map(({ sources }) => sources.idleMiB),
      floor: emptyMiB,
    },
    {
      question: "agent's start from sources to its first dial, p50",
      unit: "ms",
      values: runs.map(({ sources }) => sources.startToFirstDialMs.p50),
      floor: { what: "an empty Node process starts and ends", values: runs.map(({ floor }) => floor.startMs.p50) },
    },
  ],
  { runs },
);
