// Scripts that misbehave, and people who change their mind, against real processes: one node, one agent, the command line.
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Program } from "../../demo/processes.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { isAlive, pidsWith } from "../harness/process.ts";

let cluster: TestCluster;
let web: TestAgent;

beforeAll(async () => {
  cluster = await TestCluster.start();
  web = await cluster.startAgent({ name: "web-01" });
});
afterAll(async () => {
  await cluster.stop();
});

/** The command line as a process of its own, to be pressed Ctrl-C at. */
function holdfast(...args: string[]): Program {
  const environment = { HOLDFAST_URL: cluster.server.url, HOLDFAST_API_KEY: cluster.apiKey };
  return new Program({ title: `holdfast ${args[0]}`, args, environment });
}

async function download(id: string, stream: "out" | "err"): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of cluster.client.tasks.log(id, { stream })) pieces.push(piece);
  return Buffer.concat(pieces);
}

async function onlyTask(state: string): Promise<string> {
  const page = await cluster.client.tasks.list({ limit: 1 });
  expect(page.items[0]).toMatchObject({ state });
  return page.items[0]?.id ?? "";
}

describe("a script", () => {
  it("whose interpreter is missing is refused for good, with the reason and an exit code of its own", async () => {
    const ran = await cluster.cli("run", "--on", "web-01", "--interpreter", "/no/such/interpreter", "--", "true");
    expect(ran).toMatchObject({ exitCode: 204, output: expect.stringMatching(/refused.*interpreter-missing/) });
    const id = await onlyTask("refused");
    const task = await cluster.task(id);
    expect(task).toMatchObject({ state: "refused", exitCode: null, attempts: [{ number: 1, startedAt: null }] });
    expect(task.reason).toMatch(/^interpreter-missing/);
    expect((await cluster.cli("tasks", "show", id)).output).toContain("interpreter-missing");
  });

  it("that ends by a signal has that signal and no exit code, and the command exits with 128 + n", async () => {
    const ran = await cluster.cli("run", "--on", "web-01", "--", "echo last words; kill -SEGV $$; sleep 60");
    expect(ran).toMatchObject({ exitCode: 139, output: expect.stringContaining("ended by SIGSEGV") });
    expect(await cluster.task(await onlyTask("failed"))).toMatchObject({ exitCode: null, signal: "SIGSEGV" });
    const killed = await cluster.cli("run", "--on", "web-01", "--", "kill -9 $$");
    expect(killed.exitCode).toBe(137);
    const plain = await cluster.cli("run", "--on", "web-01", "--", "exit 137");
    expect(plain.exitCode).toBe(137);
    expect(await cluster.task(await onlyTask("failed"))).toMatchObject({ exitCode: 137, signal: null });
  });

  it("with a background child that keeps standard output open has its result at once, and the child does not survive", async () => {
    const mark = "sleep 77123";
    const beganMs = performance.now();
    const handle = await cluster.client.run({
      on: "web-01",
      script: `(setsid ${mark} &) ; ${mark} & echo ready; exit 5`,
      graceMs: 500,
    });
    const [task] = await handle.results();
    expect(performance.now() - beganMs).toBeLessThan(8_000);
    expect(task).toMatchObject({ state: "failed", exitCode: 5 });
    expect((await download(task?.id ?? "", "out")).toString()).toBe("ready\n");
    await eventually("the whole tree is gone", () => ({ done: pidsWith(mark).length === 0, state: pidsWith(mark) }), {
      limitMs: 5_000,
    });
  });

  it("with binary output is downloaded byte for byte", async () => {
    // All 256 values, in an order that a wrong encoding or a lost chunk cannot keep.
    const program =
      "import sys,hashlib\nd=b''.join(hashlib.sha512(str(i).encode()).digest() for i in range(40000))+bytes(range(256))*64\nsys.stdout.buffer.write(d)\nsys.stderr.buffer.write(d[::-1])";
    const handle = await cluster.client.run({ on: "web-01", interpreter: "python3", script: program });
    const [task] = await handle.results();
    expect(task).toMatchObject({ state: "succeeded", attempts: [{ outBytes: 2_576_384, errBytes: 2_576_384 }] });
    const expected = Buffer.concat([
      ...Array.from({ length: 40_000 }, (_, no) => createHash("sha512").update(String(no)).digest()),
      ...Array.from({ length: 64 }, () => Buffer.from(Array.from({ length: 256 }, (_, value) => value))),
    ]);
    const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
    expect(sha256(await download(task?.id ?? "", "out"))).toBe(sha256(expected));
    expect(sha256(await download(task?.id ?? "", "err"))).toBe(sha256(expected.reverse()));
  });

  it("that ignores TERM is killed with its whole tree within the grace time and 2 s after its time is over", async () => {
    const mark = "sleep 77124";
    const script = `trap '' TERM; (trap '' TERM; setsid bash -c "trap '' TERM; while :; do ${mark}; done") & while :; do ${mark}; done`;
    const handle = await cluster.client.run({ on: "web-01", script, timeoutMs: 1_000, graceMs: 1_000 });
    await eventually("the tree runs", () => ({ done: pidsWith(mark).length >= 2, state: pidsWith(mark) }));
    const [task] = await handle.results();
    expect(task).toMatchObject({ state: "timed-out" });
    expect(pidsWith(mark)).toEqual([]);
    const [attempt] = task?.attempts ?? [];
    const ranMs = Date.parse(attempt?.finishedAt ?? "") - Date.parse(attempt?.startedAt ?? "");
    expect(ranMs).toBeGreaterThanOrEqual(1_900);
    expect(ranMs).toBeLessThan(4_500);
  });
});

describe("Ctrl-C of holdfast run", () => {
  const script = (mark: string): string => `trap 'echo cleaned; exit 1' TERM; echo up; ${mark} & wait`;

  it("pressed once cancels the script, waits for the agent and exits with the code of a cancel", async () => {
    const command = holdfast("run", "--on", "web-01", "--grace", "5s", "--", script("sleep 77125"));
    await command.says(/^up$/m);
    command.kill("SIGINT");
    expect(await command.exited).toBe(202);
    expect(command.output).toMatch(/cancelling/);
    expect(command.output).toMatch(/^cleaned$/m);
    await onlyTask("cancelled");
    expect(pidsWith("sleep 77125")).toEqual([]);
  });

  it("pressed twice leaves at once with 130, while the cancel goes on by itself", async () => {
    const stubborn = "trap '' TERM; echo up; while :; do sleep 0.2; done";
    const command = holdfast("run", "--on", "web-01", "--grace", "6s", "--", stubborn);
    await command.says(/^up$/m);
    command.kill("SIGINT");
    await command.says(/cancelling/);
    const leftMs = performance.now();
    command.kill("SIGINT");
    expect(await command.exited).toBe(130);
    expect(performance.now() - leftMs).toBeLessThan(3_000);
    const [task] = (await cluster.client.tasks.list({ limit: 1 })).items;
    expect(command.output).toContain(task?.id);
    await eventually("the cancel is recorded", async () => {
      const view = await cluster.task(task?.id ?? "");
      return { done: view.cancelRequested, state: view };
    });
    expect(await cluster.finished(task?.id ?? "")).toMatchObject({ state: "cancelled" });
  });
});

describe("a second process on a data directory", () => {
  it("is refused with exit code 2 and a message that names directory and holder, and harms nothing", async () => {
    const second = holdfast(
      "server",
      "start",
      `--data-dir=${cluster.serverData}`,
      "--api-listen=127.0.0.1:0",
      "--agent-listen=127.0.0.1:0",
    );
    expect(await second.exited).toBe(2);
    expect(second.output).toContain(
      `${cluster.serverData} is in use by another server, pid ${cluster.server.program.pid}`,
    );
    expect(second.output).toMatch(/--data-dir/);
    const agent = holdfast("agent", "run", "--data-dir", web.dataDirectory);
    expect(await agent.exited).toBe(78);
    expect(agent.output).toContain(String(web.program.pid));
    expect(isAlive(web.program.pid)).toBe(true);
    expect((await cluster.cli("run", "--on", "web-01", "--", "exit 9")).exitCode).toBe(9);
  });
});
