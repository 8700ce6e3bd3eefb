// How many scripts a second one agent starts and finishes, ten at a time: submitted beforehand in one batch, empty, timed from
// the first start to the last end as the agent told them. Floor of the same run: bare spawns of the same interpreter from a
// Node process, ten at a time, and the same through a shell that does nothing else.
import { spawn } from "node:child_process";
import { startBenchCluster } from "./cluster.ts";
import { report, round } from "./measure.ts";

const scripts = 300;
const atOnce = 10;

/** Processes a second. */
async function spawns(command: readonly [string, ...string[]]): Promise<number> {
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = spawn(command[0], command.slice(1), { stdio: "ignore", detached: true });
      child.once("error", reject);
      child.once("exit", () => resolve());
    });
  for (let index = 0; index < 20; index += 1) await one();
  const startMs = performance.now();
  let left = scripts;
  const line = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await one();
    }
  };
  await Promise.all(Array.from({ length: atOnce }, line));
  return scripts / ((performance.now() - startMs) / 1_000);
}

const floor = { sh: await spawns(["/bin/sh", "-c", ":"]), bash: await spawns(["bash", "-c", ":"]) };
const cluster = await startBenchCluster(1);
try {
  const rates: Record<string, number> = {};
  for (const interpreter of ["sh", "bash"] as const) {
    const spec = { kind: "script" as const, interpreter, script: ":" };
    const warm = await cluster.client.submit({ tasks: Array.from({ length: 20 }, () => ({ on: "agent-0", spec })) });
    await warm.results();
    const run = await cluster.client.submit({
      tasks: Array.from({ length: scripts }, () => ({ on: "agent-0", spec })),
    });
    const tasks = await run.results();
    const attempts = tasks.map((task) => task.attempts[0]);
    const startedMs = attempts.map((attempt) => Date.parse(attempt?.startedAt ?? ""));
    const finishedMs = attempts.map((attempt) => Date.parse(attempt?.finishedAt ?? ""));
    if (tasks.some(({ state }) => state !== "succeeded")) throw new Error("a script did not succeed");
    rates[interpreter] = scripts / ((Math.max(...finishedMs) - Math.min(...startedMs)) / 1_000);
  }
  const { sh = 0, bash = 0 } = rates;
  report("start-rate", {
    scripts,
    atOnce,
    perSecond: { sh: round(sh), bash: round(bash) },
    floorPerSecond: { sh: round(floor.sh), bash: round(floor.bash) },
    ofFloor: { sh: round(sh / floor.sh), bash: round(bash / floor.bash) },
  });
} finally {
  await cluster.stop();
}
