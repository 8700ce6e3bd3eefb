// The README's first command, as it is: it ends by itself with --once, ends in order on Ctrl-C, and leaves nothing behind.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { eventually } from "../harness/eventually.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-demo-test-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

interface Demo {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  output(): string;
}

function startDemo(...args: string[]): Demo {
  const program = join(import.meta.dirname, "..", "..", "demo", "main.ts");
  const child = spawn(process.execPath, [program, ...args], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  return { child, exited: new Promise((resolve) => void child.once("close", resolve)), output: () => output };
}

/** Command lines of processes that work in the demo's folder. */
async function leftBehind(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")));
  return lines.filter((line) => line.includes(folder));
}

it("runs a script on two agents, kills the node a script's log flows through and adds another; exits 0 with --once", async () => {
  const demo = startDemo("--once");
  expect({ exitCode: await demo.exited, output: demo.output() }).toMatchObject({ exitCode: 0 });
  expect(demo.output()).toMatch(/web-01 +\| hello from web-01/);
  expect(demo.output()).toMatch(/web-02 +\| hello from web-02/);
  expect(demo.output()).toMatch(/web-01 +succeeded +0/);
  const counted = /killed while it runs\.\n([^]*?)\n +every number once/.exec(demo.output())?.[1] ?? "";
  expect(counted).toMatch(/kill -9 node-[abc], through which this flowed/);
  const numbers = counted
    .replace(/ +kill -9.*/, "")
    .trim()
    .split(/\s+/)
    .map(Number);
  expect(numbers).toEqual(Array.from({ length: 60 }, (_, index) => index + 1));
  expect(demo.output()).toMatch(/web-01 and web-02 are connected to node-d, [\d.]+ s after it was started/);
  expect(demo.output()).toMatch(/HOLDFAST_URL=http:\/\/127\.0\.0\.1:\d+ HOLDFAST_API_KEY=hfk_/);
  expect({ files: await readdir(folder), processes: await leftBehind() }).toEqual({ files: [], processes: [] });
});

it("stays up until Ctrl-C and then ends everything it started", async () => {
  const demo = startDemo();
  await eventually(
    "the demo stays up",
    () => ({
      done: demo.output().includes("Ctrl-C ends everything"),
      state: demo.output(),
    }),
    { limitMs: 120_000 },
  );
  expect(await leftBehind()).not.toEqual([]);
  demo.child.kill("SIGINT");
  await demo.exited;
  expect({ files: await readdir(folder), processes: await leftBehind() }).toEqual({ files: [], processes: [] });
});

it("ends everything on Ctrl-C while it still starts", async () => {
  const demo = startDemo();
  await eventually("the server has begun", () => ({
    done: demo.output().includes("node-a: API"),
    state: demo.output(),
  }));
  demo.child.kill("SIGINT");
  await demo.exited;
  expect({ files: await readdir(folder), processes: await leftBehind() }).toEqual({ files: [], processes: [] });
});
