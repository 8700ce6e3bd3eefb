// `holdfast-progress` in a real script on a real agent, which speaks to fake nodes.
import { execFileSync } from "node:child_process";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readProgress } from "../../agent/progress-file.ts";
import type { AttemptId } from "../../shared/ids.ts";
import type { ResultRecord } from "../../shared/wire/result.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import type { FakeNodeOptions } from "../fakes/node-server.ts";

type Paths = [string, string, string, string];

let bench: AgentBench;

beforeEach(() => {
  bench = new AgentBench();
});

afterEach(() => bench.stop());

/** Commands are programs: memory may be mounted noexec. */
const start = (nodes = 1, options: Partial<FakeNodeOptions> = {}): Promise<void> =>
  bench.start(nodes, { parent: tmpdir(), ...options });

const resultOf = (attempt: AttemptId): Promise<ResultRecord> =>
  bench.store.until(`the result of ${attempt}`, () => bench.store.rows.get(attempt)?.result);

const toldOf = (attempt: AttemptId) =>
  bench.store.row(attempt).progress.map(({ percent, message }) => ({ percent, message }));

const told = (attempt: AttemptId, message: string) =>
  bench.store.until(`progress ${message}`, () => toldOf(attempt).find((one) => one.message === message));

/** Lets a script that waits for it go on. */
const goOn = (step: string): string => `while ! [ -e "$GO/${step}" ]; do sleep 0.05; done`;
const release = (step: string): Promise<void> => writeFile(bench.path(step), "");
const waiting = () => ({ env: { GO: bench.folder } });

test.each(["bash", "sh"])(
  "what a script says reaches the node while it runs, by command and by hand (%s)",
  async (interpreter) => {
    await start();
    await bench.agent();
    const script = `
    holdfast-progress 40 'copying  "all"'
    ${goOn("one")}
    holdfast-progress - waiting
    ${goOn("two")}
    echo "100 by hand" > "$HOLDFAST_PROGRESS"
    ${goOn("three")}
    exit 3`;
    const attempt = await bench.node.run(script, { interpreter, ...waiting() });
    expect(await told(attempt, 'copying  "all"')).toEqual({ percent: 40, message: 'copying  "all"' });
    await release("one");
    expect(await told(attempt, "waiting")).toEqual({ percent: null, message: "waiting" });
    await release("two");
    expect(await told(attempt, "by hand")).toEqual({ percent: 100, message: "by hand" });
    await release("three");
    expect(await resultOf(attempt)).toMatchObject({ outcome: "failed", exitCode: 3 });
    expect(toldOf(attempt)).toHaveLength(3);
  },
);

test("what is no progress fails in the command, with a message, and changes nothing", async () => {
  await start();
  await bench.agent();
  const bad = ["", "101", "-1", "4.5", "4O", "1000", "40 x y", "-", "- ''", "'' x", "'1\n2'"];
  const script = `
    holdfast-progress 7 good
    ${bad.map((args) => `holdfast-progress ${args} 2>> words; echo $?`).join("\n")}
    (unset HOLDFAST_PROGRESS; holdfast-progress 1 2>> words; echo $?)
    (HOLDFAST_PROGRESS=/nowhere/at/all; holdfast-progress 1 2>> words; echo $?)
    cat words >&2
    ${goOn("end")}`;
  const attempt = await bench.node.run(script, { interpreter: "sh", ...waiting() });
  await told(attempt, "good");
  await release("end");
  await resultOf(attempt);
  expect(toldOf(attempt)).toEqual([{ percent: 7, message: "good" }]);
  expect(bench.store.row(attempt).out.bytes.toString()).toBe(`${"2\n".repeat(bad.length + 1)}1\n`);
  const words = bench.store.row(attempt).err.bytes.toString();
  expect(words).toContain("holdfast-progress: usage: holdfast-progress PERCENT [MESSAGE], or - for no percentage\n");
  expect(words).toContain("holdfast-progress: a percentage is a whole number from 0 to 100\n");
  expect(words).toContain("holdfast-progress: without a percentage there has to be a message\n");
  expect(words).toContain("holdfast-progress: HOLDFAST_PROGRESS is not set: this is no script of a Holdfast agent\n");
  expect(words).toContain("holdfast-progress: cannot be written\n");
});

test("a script that says something all the time costs a few messages, and the newest arrives", async () => {
  await start();
  await bench.agent();
  const script = `
    i=0; while [ $i -lt 20000 ]; do echo "$((i / 200)) step $i" 1<> $HOLDFAST_PROGRESS; i=$((i + 1)); done
    holdfast-progress 100 last
    ${goOn("end")}`;
  const began = performance.now();
  const attempt = await bench.node.run(script, { interpreter: "sh", ...waiting() });
  await told(attempt, "last");
  const seconds = (performance.now() - began) / 1_000;
  await release("end");
  await resultOf(attempt);
  const said = toldOf(attempt);
  expect(said.length).toBeLessThanOrEqual(seconds + 2);
  const percents = said.map(({ percent }) => percent ?? -1);
  expect(percents).toEqual(percents.toSorted((one, other) => one - other));
});

test("a secret of the task is masked before it leaves", async () => {
  await start();
  await bench.agent();
  const secrets = [{ name: "TOKEN", value: "correct-horse", as: "variable" as const }];
  const script = `holdfast-progress 5 "with $TOKEN"; ${goOn("end")}`;
  const attempt = await bench.node.run(script, waiting(), { secrets });
  expect(await told(attempt, "with *************")).toMatchObject({ percent: 5 });
  await release("end");
  await resultOf(attempt);
  expect(JSON.stringify(toldOf(attempt))).not.toContain("correct");
});

test("a progress file that is a link, a pipe or a folder says nothing and holds nothing up", async () => {
  await start();
  const [file, link, pipe, folder] = ["file", "link", "pipe", "folder"].map((name) => bench.path(name)) as Paths;
  await writeFile(file, "1 one\n");
  await symlink(file, link);
  execFileSync("mkfifo", [pipe]);
  await mkdir(folder);
  expect([file, link, pipe, folder, bench.path("none")].map((path) => readProgress(path, undefined))).toEqual([
    { percent: 1, message: "one" },
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

describe("another home", () => {
  test("is told the newest again: after the node has gone", async () => {
    await start(2);
    await bench.agent();
    await bench.store.until("both sessions", () => bench.nodes.every(({ sessions }) => sessions.length > 0));
    const attempt = await bench.node.run(`holdfast-progress 40 copying; ${goOn("end")}`, waiting());
    await told(attempt, "copying");
    const [first, second] = bench.nodes;
    await first?.stop();
    await bench.store.until("progress through the other node", () =>
      bench.store.row(attempt).progress.some(({ node, percent }) => node === second?.id && percent === 40),
    );
    await release("end");
    await resultOf(attempt);
  });

  test("is told the newest again: after the agent was killed", async () => {
    await start();
    const first = bench.process();
    const attempt = await bench.node.run(`holdfast-progress 40 copying; ${goOn("end")}`, waiting());
    await told(attempt, "copying");
    await bench.kill(first);
    bench.store.row(attempt).progress.length = 0;
    await bench.agent();
    expect(await told(attempt, "copying")).toMatchObject({ percent: 40 });
    await release("end");
    await resultOf(attempt);
  });
});

test("a node whose welcome does not name it is told nothing, and the log is as it was", async () => {
  await start(1, { capabilities: [] });
  await bench.agent();
  // Long enough for two looks.
  const attempt = await bench.node.run("holdfast-progress 40 copying; sleep 2; echo done");
  await resultOf(attempt);
  expect(toldOf(attempt)).toEqual([]);
  expect(bench.store.row(attempt).out.bytes.toString()).toBe("done\n");
});
