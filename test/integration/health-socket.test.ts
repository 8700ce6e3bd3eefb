// The running agent's health line: one JSON line per connection on a socket of the owner's, whatever lay there before and
// however long the data directory's path is.
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { examineAgent } from "../../agent/doctor/doctor.ts";
import { healthLineSchema } from "../../agent/health-line.ts";
import type { HealthLine } from "../../agent/health-line.ts";
import { readHealth } from "../../agent/health-reader.ts";
import { HealthSocket } from "../../agent/health-socket.ts";
import { systemClock } from "../../shared/clock.ts";
import { silentLogger } from "../../shared/logger.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { eventually } from "../harness/eventually.ts";

let bench: AgentBench;
const ends: (() => Promise<void> | void)[] = [];

beforeEach(() => {
  bench = new AgentBench();
});

afterEach(async () => {
  await bench.stop();
  for (const end of ends.splice(0).toReversed()) await end();
});

/** As a monitor would: connect, read to the end. */
async function readSocket(path: string): Promise<string> {
  const socket = connect(path);
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(socket, "close");
  return Buffer.concat(chunks).toString();
}

async function line(): Promise<HealthLine> {
  const answer = await readHealth(bench.folder, { clock: systemClock });
  if (answer.kind !== "line") throw new Error(JSON.stringify(answer));
  return answer.line;
}

test("one line says who runs, its sessions, attempts, journal and disk; then the agent closes", async () => {
  await bench.start(2);
  const agent = await bench.agent({ slots: 1 });
  const openIds = (): unknown[] => agent.status().nodes.flatMap(({ state, id }) => (state === "open" ? [id] : []));
  await bench.store.until("both sessions", () => bench.nodes.every(({ id }) => openIds().includes(id)));
  const script = `echo up; while [ ! -e ${bench.path("go")} ]; do sleep 0.02; done`;
  await bench.node.run(script);
  await bench.node.run("true", {}, { ignoreCredit: true });
  await bench.store.until("one waits", () => agent.status().attempts.waiting === 1);
  const text = await readSocket(bench.path("health.sock"));
  expect(text).toMatch(/^\{[^\n]*\}\n$/);
  expect(healthLineSchema.parse(JSON.parse(text))).toMatchObject({
    format: 1,
    pid: process.pid,
    name: "web-01",
    state: "running",
    quarantine: null,
    sessions: bench.nodes.map((node) => ({ node: node.listed().name, id: node.id, state: "open", lastEnd: null })),
    attempts: { open: 2, running: 1, waiting: 1, kept: 0 },
    disk: { refusedBelowBytes: 32 * 1024 * 1024 },
    interpreters: expect.arrayContaining(["sh"]),
  });
  await eventually("the line tells the journal's size", async () => {
    const [{ journalBytes, disk }, { size }] = [await line(), await stat(bench.path("journal"))];
    return { done: journalBytes === size && disk.freeBytes > 0, state: { journalBytes, size, disk } };
  });
  expect((await stat(bench.path("health.sock"))).mode & 0o777).toBe(0o600);
  await writeFile(bench.path("go"), "");
  await bench.nodes[1]?.stop();
  const ended = await bench.store.until("the end of a session", () =>
    agent.status().nodes.some(({ lastEnd }) => lastEnd !== undefined),
  );
  expect(ended).toBe(true);
  expect((await line()).sessions.map(({ state }) => state === "open")).toEqual([true, false]);
  agent.drain();
  expect((await line()).state).toBe("draining");
  await agent.stop();
  expect((await readdir(bench.folder)).filter((name) => name.startsWith("health"))).toEqual([]);
  expect(await readHealth(bench.folder, { clock: systemClock })).toEqual({ kind: "none" });
});

test("a socket that a killed process left is replaced, and doctor does not take it for an agent", async () => {
  await bench.start();
  // A process that dies does not remove its socket; a listener renamed away from its own path leaves one the same way.
  const dead = createServer();
  dead.listen(bench.path("dead.sock"));
  await once(dead, "listening");
  await rename(bench.path("dead.sock"), bench.path("health.sock"));
  dead.close();
  await once(dead, "close");
  await writeFile(bench.path("health.sock.new"), "left between bind and rename");
  expect(await readHealth(bench.folder, { clock: systemClock })).toMatchObject({
    kind: "silent",
    why: expect.stringContaining("ECONNREFUSED"),
  });
  expect((await examineAgent({ dataPath: bench.folder })).agent).toBe("not-running");
  await bench.agent();
  expect((await line()).pid).toBe(process.pid);
});

test("a data directory whose path no socket address holds still has its socket inside", async () => {
  const parent = await mkdtemp(join(tmpdir(), "holdfast-health-"));
  ends.push(() => rm(parent, { recursive: true, force: true }));
  const deep = join(parent, "d".repeat(120));
  await mkdir(deep);
  await bench.start(1, { parent: deep });
  expect(bench.path("health.sock").length).toBeGreaterThan(120);
  const agent = await bench.agent();
  expect((await stat(bench.path("health.sock"))).isSocket()).toBe(true);
  expect((await line()).pid).toBe(process.pid);
  await bench.store.until("a session", () => bench.node.session);
  expect((await examineAgent({ dataPath: bench.folder }, { environment: {}, execArgv: [] })).agent).toBe("running");
  await agent.stop();
  expect((await readdir(bench.folder)).filter((name) => name.startsWith("health"))).toEqual([]);
});

test("readers that do not read hold nothing for long and nobody up, and are few", async () => {
  const dataPath = await mkdtemp(join(tmpdir(), "holdfast-health-"));
  ends.push(() => rm(dataPath, { recursive: true, force: true }));
  await bench.start();
  await bench.agent();
  // Larger than a socket's buffers, so that a line that is not read stays unsent.
  const long: HealthLine = { ...(await line()), name: "x".repeat(3 * 1024 * 1024) };
  const limits: (() => void)[] = [];
  const clock = {
    after: (_delayMs: number, act: () => void) => {
      limits.push(act);
      return { cancel: () => undefined };
    },
  };
  const health = new HealthSocket({ clock, logger: silentLogger, line: () => long }, { dataPath });
  await health.start();
  ends.push(() => health.stop());
  const path = join(dataPath, "health.sock");
  const idle = Array.from({ length: 16 }, () => connect(path).pause());
  await bench.store.until("all are served", () => limits.length === 16);
  expect(await readSocket(path)).toBe("");
  const closed = Promise.all(idle.map((socket) => once(socket.resume(), "close")));
  for (const act of limits) act();
  await closed;
  expect(await readHealth(dataPath, { clock: systemClock })).toMatchObject({ kind: "line" });
});

test("a data directory in which no socket can be made stops no work", async () => {
  const warnings: string[] = [];
  const logger = { ...silentLogger, warn: (_fields: object, message: string) => warnings.push(message) };
  const health = new HealthSocket(
    { clock: systemClock, logger, line: () => expect.unreachable() },
    { dataPath: "/nonexistent/agent" },
  );
  await health.start();
  expect(warnings).toEqual([expect.stringContaining("/nonexistent/agent/health.sock: no health line is served")]);
  await health.stop();
});
