// Scripts in control groups of this host: nothing of them escapes their end, limits hold, and an agent that was killed finds
// the groups again. On a host that lets nobody make groups these say so; with CI=true that is a failure.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { CgroupEntry, thisHost } from "../../agent/cgroup-entry.ts";
import { parseCgroupLayout } from "../../agent/cgroup-layout.ts";
import { openCgroups, type Cgroups } from "../../agent/cgroups.ts";
import { parsePlaces, removeGroup, type GroupPlace } from "../../agent/attempt-cgroup.ts";
import { listProcesses } from "../../agent/process-table.ts";
import type { AttemptId } from "../../shared/ids.ts";
import type { ResultRecord } from "../../shared/wire/result.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { eventually } from "../harness/eventually.ts";

const mebi = 1024 * 1024;
const cgroups: Cgroups | undefined = openCgroups("holdfast-tests");
const canRun = cgroups?.canLimit("memory") === true && cgroups.canLimit("pids");
cgroups?.close();
const isSkipped = !canRun && process.env["CI"] !== "true";
if (!canRun) process.stderr.write("agent-cgroups: this host lets nobody make control groups with limits: skipped\n");

let bench: AgentBench;
const folders = new Set<string>();

beforeEach(async () => {
  bench = new AgentBench();
  await bench.start();
});

afterEach(async () => {
  await bench.stop();
  // An agent that was killed leaves its folders for the next one.
  for (const folder of folders) removeGroup(folder);
  folders.clear();
});

const result = (attempt: AttemptId): Promise<ResultRecord> =>
  bench.store.until(`the result of ${attempt}`, () => bench.store.row(attempt).result, 30_000);

function output(attempt: AttemptId, pattern: RegExp): Promise<string> {
  return bench.store.until(`output ${String(pattern)}`, () => {
    return pattern.exec(bench.store.row(attempt).out.bytes.toString())?.[1];
  });
}

async function places(attempt: AttemptId): Promise<GroupPlace[]> {
  const made = parsePlaces(await readFile(bench.path("attempts", attempt, "cgroup"), "utf8"));
  for (const { path } of made) folders.add(dirname(path));
  return made;
}

/** Everybody who says by its command line that it belongs to the test. */
const sleepers = (seconds: string): Promise<number[]> =>
  Promise.all(
    listProcesses().map(async ({ pid }) => {
      const line = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
      return line.includes(`\0${seconds}\0`) ? [pid] : [];
    }),
  ).then((pids) => pids.flat());

/** Leaves session, group, environment and parent behind: nothing but the control group tells whose it is. */
const escape = (seconds: string): string =>
  `(setsid env -i PATH=/usr/bin:/bin sh -c 'trap "" TERM HUP; sleep ${seconds} & sleep ${seconds} & wait' > /dev/null 2>&1 &)`;

test.skipIf(isSkipped)("an agent that makes way for its scripts is let in where it is, and stays there", async () => {
  const [mounts, before] = await Promise.all(
    ["mountinfo", "cgroup"].map((name) => readFile(`/proc/self/${name}`, "utf8")),
  );
  const { unified: path = "" } = parseCgroupLayout(mounts ?? "", before ?? "");
  const refusals: unknown[] = [];
  const entry = new CgroupEntry(
    { path, ownGroups: before ?? "" },
    {
      ...thisHost,
      enter: (place) => thisHost.enter(place).catch((cause: unknown) => void refusals.push(cause)),
    },
  );
  await entry.expect();
  expect(refusals).toEqual([]);
  expect(await readFile("/proc/self/cgroup", "utf8")).toBe(before);
});

test.skipIf(isSkipped)(
  "a child that left everything else behind ends with a cancel, and the groups are gone",
  async () => {
    await bench.agent();
    const attempt = await bench.node.run(`${escape("4201")}; sleep 0.2; echo up 1; sleep 60`, { graceMs: 100 });
    await output(attempt, /up (1)/);
    expect(await sleepers("4201")).toHaveLength(2);
    const made = await places(attempt);
    bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 100 }] });
    expect(await result(attempt)).toMatchObject({ outcome: "cancelled", reason: "cancel" });
    expect(await sleepers("4201")).toEqual([]);
    expect(made.map(({ use }) => use)).toEqual(["tree"]);
    await eventually("its groups are gone", () => {
      const left = made.filter(({ path }) => existsSync(path));
      return { done: left.length === 0, state: left };
    });
  },
);

test.skipIf(isSkipped)("so it does with the end of its script", async () => {
  await bench.agent();
  const attempt = await bench.node.run(`${escape("4202")}; sleep 0.2; exit 3`);
  expect(await result(attempt)).toMatchObject({ outcome: "failed", reason: "exit-code", exitCode: 3 });
  expect(await sleepers("4202")).toEqual([]);
});

test.skipIf(isSkipped)(
  "a script that takes more memory than it may is ended by the kernel, and the result says so",
  async () => {
    await bench.agent();
    const greedy = "x = []\nwhile True: x.append(bytearray(1048576))";
    const attempt = await bench.node.run(greedy, { interpreter: "python3", memoryBytes: 64 * mebi });
    expect(await result(attempt)).toMatchObject({ outcome: "failed", reason: "oom-killed", signal: "SIGKILL" });
    const modest = await bench.node.run("echo fine", { memoryBytes: 64 * mebi });
    expect(await result(modest)).toMatchObject({ outcome: "succeeded", reason: "" });
  },
);

test.skipIf(isSkipped)("a fork bomb is held by its limit and ends whole", async () => {
  await bench.agent();
  // The script itself must not have to fork, for it would fail.
  const bomb = "b() { b | b & }; echo up 1; b 2> /dev/null & while :; do :; done";
  const attempt = await bench.node.run(bomb, { pids: 40, graceMs: 200 });
  await output(attempt, /up (1)/);
  const [tree] = await places(attempt);
  await eventually("it is as large as it may be", async () => {
    const count = (await readFile(`${tree?.path ?? ""}/cgroup.procs`, "utf8")).split("\n").length - 1;
    expect(count).toBeLessThanOrEqual(40);
    return { done: count >= 20, state: count };
  });
  bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 200 }] });
  expect(await result(attempt)).toMatchObject({ outcome: "cancelled", reason: "cancel" });
  const members = listProcesses().map(async ({ pid }) => readFile(`/proc/${pid}/environ`, "latin1").catch(() => ""));
  expect((await Promise.all(members)).filter((environment) => environment.includes(attempt))).toEqual([]);
});

test.skipIf(isSkipped)("an agent that was killed finds the groups of what it started", async () => {
  const agent = bench.process();
  const attempt = await bench.node.run(`${escape("4203")}; sleep 0.2; echo up 1; sleep 60`, { graceMs: 100 });
  await output(attempt, /up (1)/);
  await places(attempt);
  await bench.kill(agent);
  bench.process();
  // As nodes do, until the result is there.
  await eventually("the cancel is heard", () => {
    bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 100 }] });
    return { done: bench.store.row(attempt).result !== undefined, state: bench.store.row(attempt).homeNo };
  });
  expect(await result(attempt)).toMatchObject({ outcome: "cancelled" });
  expect(await sleepers("4203")).toEqual([]);
});
