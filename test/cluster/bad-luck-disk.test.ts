// An agent whose disk is full: a tmpfs of 64 MiB, mounted for this file and unmounted after it. Needs root, as mounting does.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isFinal } from "../../shared/task.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { startsIn } from "../harness/script-truth.ts";
import { SmallDisk } from "../harness/small-disk.ts";

let cluster: TestCluster;
let small: TestAgent;
let folder: string;
let disk: SmallDisk;

describe.runIf(process.getuid?.() === 0)("an agent on a full disk", () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "holdfast-disk-"));
    disk = SmallDisk.mount(join(folder, "disk"));
    cluster = await TestCluster.start();
    small = await cluster.startAgent({ name: "small-01", dataDirectory: join(disk.path, "agent") });
  });
  afterAll(async () => {
    // Scripts outlive their agent: those that a failed test left are let go first, for they hold the disk.
    for (const no of [1, 2, 3]) await writeFile(held(no).go, "");
    await cluster?.stop();
    await disk?.remove();
    await rm(folder, { recursive: true, force: true });
  });

  /** Runs until `go` exists, which lies on another disk. */
  function held(no: number): { readonly script: string; readonly truth: string; readonly go: string } {
    const [truth, go] = [join(folder, `truth-${no}`), join(folder, `go-${no}`)];
    const script = `echo "start $HOLDFAST_ATTEMPT_ID" >> '${truth}'; echo before; while [ ! -e '${go}' ]; do sleep 0.05; done; echo after; exit 5`;
    return { script, truth, go };
  }

  it("refuses new work for later, says so in tasks show, delivers the result of what runs, and goes on when there is room", async () => {
    const { script, truth, go } = held(1);
    const running = await cluster.client.run({ on: "small-01", script });
    await eventually("the script runs", () => ({ done: startsIn(truth) === 1, state: startsIn(truth) }));
    const makeRoom = disk.fill();
    // The agent measures its disk twice a second; what comes before it knows is another matter.
    const filledMs = performance.now();
    await eventually("the agent has measured its disk", () => ({
      done: performance.now() - filledMs > 1_500,
      state: filledMs,
    }));

    const waiting = await cluster.client.run({ on: "small-01", script: "echo room again" });
    const id = waiting.tasks[0]?.id ?? "";
    await eventually("tasks show explains that the disk is full", async () => {
      const shown = await cluster.cli("tasks", "show", id);
      return { done: shown.exitCode === 0 && shown.output.includes("disk-full"), state: shown.output };
    });
    expect(["queued", "offered"]).toContain((await cluster.task(id)).state);

    await writeFile(go, "");
    const result = await running.result();
    expect(result).toMatchObject({ state: "failed", exitCode: 5 });
    let text = "";
    for await (const bytes of cluster.client.tasks.log(running.tasks[0]?.id ?? "", { stream: "out" }))
      text += Buffer.from(bytes).toString();
    expect(text).toMatch(/^before\n(after\n)?$/);
    expect(startsIn(truth)).toBe(1);
    expect(small.program.isRunning).toBe(true);

    makeRoom();
    expect(await cluster.finished(id, 90_000)).toMatchObject({ state: "succeeded", attempts: [{ number: 1 }] });
  });

  it("that is killed there and started again with no byte free still delivers the result of its script", async () => {
    const { script, truth, go } = held(2);
    const running = await cluster.client.run({ on: "small-01", script });
    await eventually("the script runs", () => ({ done: startsIn(truth) === 1, state: startsIn(truth) }));
    const makeRoom = disk.fill();
    small.program.kill("SIGKILL");
    await small.program.exited;
    await writeFile(go, "");
    try {
      // The journal's last block has room for a boot and a result; nothing else may need any.
      await cluster.restartAgent(small);
      expect(await running.result()).toMatchObject({ state: "failed", exitCode: 5 });
    } finally {
      makeRoom();
    }
    expect(startsIn(truth)).toBe(1);
  });

  it("that dies there while it ends a script leaves word to the next one of why it was ended", async () => {
    const { truth, go } = held(3);
    // It takes its time when it is told to end, and then has a code of its own.
    const script = `trap "echo told >> '${truth}'" TERM; echo "start $HOLDFAST_ATTEMPT_ID" >> '${truth}'; while [ ! -e '${go}' ]; do sleep 0.05; done; exit 5`;
    const running = await cluster.client.run({ on: "small-01", script, timeoutMs: 6_000, graceMs: 60_000 });
    await eventually("the script runs", () => ({ done: startsIn(truth) === 1, state: startsIn(truth) }));
    const makeRoom = disk.fill();
    try {
      await eventually("the script is told to end", async () => {
        const told = await readFile(truth, "utf8");
        return { done: told.includes("told"), state: told };
      });
      const attempt = /^start (\S+)$/m.exec(await readFile(truth, "utf8"))?.[1] ?? "";
      expect(await readFile(join(disk.path, "agent", "attempts", attempt, "run", "ended-for"), "utf8")).toBe(
        "timed-out",
      );
      small.program.kill("SIGKILL");
      await small.program.exited;
      await writeFile(go, "");
    } finally {
      makeRoom();
    }
    await cluster.restartAgent(small);
    // What the script says now may find no room any more.
    expect(await running.result()).toMatchObject({
      state: "timed-out",
      reason: expect.stringMatching(/^time-limit(; output-lost)?$/),
      exitCode: 5,
    });
  });

  it("that filled up a moment ago takes no work to fail it: what never started waits for room", async () => {
    // Several times, for the agent may just have measured its disk.
    for (let round = 0; round < 4; round += 1) {
      const before = await cluster.client.run({ on: "small-01", script: "echo there is room" });
      expect(await before.result()).toMatchObject({ state: "succeeded" });
      const makeRoom = disk.fill();
      const handle = await cluster.client.run({ on: "small-01", script: "exit 6" });
      const id = handle.tasks[0]?.id ?? "";
      try {
        const shown = await eventually("the task is refused for later, or has ended", async () => {
          const task = await cluster.task(id);
          return { done: isFinal(task.state) || task.reason?.startsWith("disk-full") === true, state: task };
        });
        expect(shown).toMatchObject({ state: "offered" });
      } finally {
        makeRoom();
        // A journal without room ends its agent, and a supervisor starts the next one.
        if (!small.program.isRunning) await cluster.restartAgent(small);
      }
      expect(await handle.result()).toMatchObject({ state: "failed", exitCode: 6 });
    }
  });
});
