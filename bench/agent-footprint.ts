// What an agent costs its machine: memory and CPU while idle, memory with 50 scripts that run, and how long after its start it
// dials. Floors of the same run: an empty Node process, its memory and its start.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { Program } from "../demo/processes.ts";
import { startBenchCluster } from "./cluster.ts";
import { quantiles, report, round, runningMs } from "./measure.ts";

const idleMs = 30_000;
const scripts = 50;
const starts = 10;

function residentMiB(pid: number): number {
  return round(Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_024);
}

async function emptyNode() {
  const child = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1e6)"], { stdio: "ignore" });
  await pause(2_000);
  const idleMiB = residentMiB(child.pid ?? 0);
  child.kill("SIGKILL");
  const startMs = Array.from({ length: starts }, () => {
    const beganMs = performance.now();
    spawnSync(process.execPath, ["-e", "0"]);
    return performance.now() - beganMs;
  });
  return { idleMiB, startMs: quantiles(startMs) };
}

const floor = await emptyNode();
const cluster = await startBenchCluster(1);
const [agent] = cluster.agents;
if (agent === undefined) throw new Error("there is an agent");
try {
  await pause(10_000);
  const before = runningMs(agent.pid);
  await pause(idleMs);
  const idleCpu = (runningMs(agent.pid) - before) / idleMs;
  const idleMiB = residentMiB(agent.pid);
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
  const busyMiB = residentMiB(agent.pid);
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
    const again = new Program({ title: "agent", args: ["agent", "run", "--data-dir", cluster.agentFolder("agent-0")] });
    await dialled;
    dialMs.push(performance.now() - beganMs);
    await again.stop();
  }
  port.close();
  report("agent-footprint", {
    idleMiB,
    percentOfACoreIdle: round(idleCpu * 100),
    withScriptsMiB: busyMiB,
    scripts,
    startToFirstDialMs: quantiles(dialMs),
    floor: { emptyNodeMiB: floor.idleMiB, emptyNodeStartMs: floor.startMs },
  });
} finally {
  await cluster.stop();
}
