// How many scripts a second one agent starts and finishes, ten at a time: submitted beforehand in one batch, empty, timed from
// the first start to the last end as the agent told them. Floor of the same run: bare spawns of the same interpreter from a
// Node process, ten at a time, and the same through a shell that does nothing else.
import { spawn } from "node:child_process";
import { startBenchCluster } from "./cluster.ts";
import { repeated, repeatsAsked } from "./measure.ts";
import { report } from "./result.ts";

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

const interpreters = ["sh", "bash"] as const;
const cluster = await startBenchCluster(1);

async function rates(): Promise<Record<(typeof interpreters)[number], number>> {
  const found = { sh: 0, bash: 0 };
  for (const interpreter of interpreters) {
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
    found[interpreter] = scripts / ((Math.max(...finishedMs) - Math.min(...startedMs)) / 1_000);
  }
  return found;
}

try {
  const runs = await repeated(repeatsAsked(3), async () => ({
    floor: { sh: await spawns(["/bin/sh", "-c", ":"]), bash: await spawns(["bash", "-c", ":"]) },
    agent: await rates(),
  }));
  report(
    "start-rate",
    interpreters.map((interpreter) => ({
      question: `empty scripts on one agent, ${interpreter}`,
      unit: "/s",
      values: runs.map(({ agent }) => agent[interpreter]),
      floor: { what: "bare spawns, ten at a time", values: runs.map(({ floor }) => floor[interpreter]) },
    })),
    { scripts, atOnce },
  );
} finally {
  await cluster.stop();
}
