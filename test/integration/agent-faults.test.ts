// Hosts that refuse an agent what it asks of them, and journals that were torn at the worst place: a result comes all the same.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, readdirSync, readlinkSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm, rmdir, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AttemptEvent } from "../../agent/attempt.ts";
import { Execution } from "../../agent/execution.ts";
import { LocalHost } from "../../agent/local-host.ts";
import { defaultSpoolBounds } from "../../agent/segments.ts";
import { Journal } from "../../agent/journal.ts";
import { scanJournal } from "../../agent/journal-frame.ts";
import { decodeRecord, type AttemptFacts } from "../../agent/journal-record.ts";
import { listProcesses, readProcess } from "../../agent/process-table.ts";
import { systemClock } from "../../shared/clock.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { attemptIdSchema, taskIdSchema } from "../../shared/ids.ts";
import { silentLogger } from "../../shared/logger.ts";
import { taskSpecSchema } from "../../shared/task.ts";
import { SystemRandom } from "../../shared/random.ts";
import { ownVersion } from "../../shared/version.ts";
import type { ResultRecord } from "../../shared/wire/result.ts";
import { AgentBench } from "../fakes/node-cluster.ts";

const isRoot = process.getuid?.() === 0;
let bench: AgentBench;

beforeEach(() => {
  bench = new AgentBench();
});

afterEach(() => bench.stop());

const result = (attempt: AttemptId, withinMs = 20_000): Promise<ResultRecord> =>
  bench.store.until(`the result of ${attempt}`, () => bench.store.row(attempt).result, withinMs);

/** Cuts the journal behind its last record of a kind, as a write that power loss tore does. */
async function tearAfter(kind: string): Promise<void> {
  const bytes = await readFile(bench.path("journal"));
  let at = 0;
  let end = 0;
  for (const payload of scanJournal(bytes).payloads) {
    at += 12 + payload.length;
    if (decodeRecord(payload).kind === kind) end = at;
  }
  expect(end).toBeGreaterThan(0);
  await writeFile(bench.path("journal"), bytes.subarray(0, end + 5));
}

function hostOf(attempt: AttemptId, facts?: AttemptFacts): LocalHost {
  return new LocalHost({
    attempt,
    facts,
    attemptsPath: bench.path("attempts"),
    secrets: { read: () => ({ kind: "none" }) },
    shimPath: "",
    commandsPath: "",
    resetSignals: "",
    bounds: defaultSpoolBounds,
    agentName: "web-01",
    environment: {},
  });
}

test("a no-op whose result was torn off the journal is finished by the next process", async () => {
  await bench.start();
  bench.store.acknowledges = false;
  const first = await bench.agent();
  const attempt = await bench.node.offer({ kind: "no-op" });
  await bench.store.until("a first result", () => bench.store.row(attempt).resultsSeen > 0);
  await first.stop();
  await tearAfter("intent");
  bench.store.acknowledges = true;
  await bench.agent();
  expect(await result(attempt)).toMatchObject({ outcome: "succeeded", exitCode: null });
});

test("a start that failed is told as failed by the next process too", async () => {
  await bench.start();
  bench.store.acknowledges = false;
  const first = await bench.agent();
  // Without its text the shim ends before it wins the gate.
  for (const name of readdirSync(bench.folder)) if (/^shim.*\.sh$/.test(name)) await rm(bench.path(name));
  const attempt = await bench.node.run("echo never");
  await bench.store.until("a first result", () => bench.store.row(attempt).resultsSeen > 0);
  await first.stop();
  await tearAfter("intent");
  bench.store.acknowledges = true;
  await bench.agent();
  const record = await result(attempt);
  expect(record.outcome).toBe("failed");
  expect(record.reason).toMatch(/^start-failed: /);
});

test("a script that ended by itself while its agent stood still is not called cancelled", async () => {
  await bench.start();
  const agent = bench.process();
  const attempt = await bench.node.run(`while [ ! -e ${bench.path("go")} ]; do sleep 0.01; done; exit 4`);
  await bench.store.until("started", () => bench.store.row(attempt).started > 0);
  agent.kill("SIGSTOP");
  await writeFile(bench.path("go"), "");
  await bench.store.until("the exit", () => bench.attemptFolder(attempt).exit());
  bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 0 }] });
  agent.kill("SIGCONT");
  expect(await result(attempt)).toMatchObject({ outcome: "failed", exitCode: 4 });
});

test.each([
  ["finds the exit of a script that had ended, and reports that", true, "outrun"],
  ["finds no exit, and reports its work", false, "killed"],
])("a kill that %s", async (_name, hasExit, kind) => {
  await bench.start();
  const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-00000000beef");
  const events: AttemptEvent[] = [];
  const host = hostOf(attempt);
  const execution = new Execution(
    { clock: systemClock, logger: silentLogger, onEvent: (event) => events.push(event), onDrained: () => undefined },
    { attempt, facts: undefined, host },
  );
  await mkdir(join(host.folder.path, "run"), { recursive: true });
  await writeFile(join(host.folder.path, "run", "shim"), "1 4194304 1 1.00 .\n");
  if (hasExit) await writeFile(join(host.folder.path, "exit"), "1 0 5.25 [1] + Done .\n");
  await execution.perform({ kind: "kill", cause: "cancelled", graceMs: 0 });
  expect(events).toMatchObject([{ kind, left: [] }]);
  await execution.stop();
});

test.each([
  [
    "what a script that had ended left behind does not call the end a cancel",
    "(sleep 300 &); exec sleep 301",
    undefined,
  ],
  ["the script itself does", "sleep 300 & exec sleep 301", "cancelled"],
])("a kill that finds only %s", async (_name, program, endedFor) => {
  await bench.start();
  const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-00000000beef");
  const host = hostOf(attempt);
  const execution = new Execution(
    { clock: systemClock, logger: silentLogger, onEvent: () => undefined, onDrained: () => undefined },
    { attempt, facts: undefined, host },
  );
  // In the shim's place: it has signed, and the word that the script is over has not been written yet.
  const shim = spawn("/bin/sh", ["-c", program], { detached: true, stdio: "ignore" });
  const pid = shim.pid ?? 0;
  await bench.store.until("the shim and one more process", () => {
    const rows = listProcesses().filter(({ session }) => session === pid);
    return rows.length === 2 && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("301");
  });
  await mkdir(join(host.folder.path, "run"), { recursive: true });
  await writeFile(join(host.folder.path, "run", "shim"), `1 ${pid} ${readProcess(pid)?.startTicks ?? ""} 1.00 .\n`);
  await execution.perform({ kind: "kill", cause: "cancelled", graceMs: 0 });
  expect(host.folder.endedFor()).toBe(endedFor);
  expect(listProcesses().filter(({ session }) => session === pid)).toEqual([]);
  await execution.stop();
});

test("what this version does not know of a task is not started without it", async () => {
  await bench.start();
  const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-00000000beef");
  const { spec } = { spec: taskSpecSchema.parse({ kind: "script", script: "true" }) };
  const task = taskIdSchema.parse(attempt);
  const facts = { attempt, task, attemptNumber: 1, offerNo: 1, lane: "work", spec, lostFields: ["sandbox"] } as const;
  const events: AttemptEvent[] = [];
  const execution = new Execution(
    { clock: systemClock, logger: silentLogger, onEvent: (event) => events.push(event), onDrained: () => undefined },
    {
      attempt,
      facts: { ...facts, lostFields: ["sandbox"] },
      host: hostOf(attempt, { ...facts, lostFields: ["sandbox"] }),
    },
  );
  await execution.perform({ kind: "prepare" }).catch(() => undefined);
  await execution.perform({ kind: "spawn" });
  expect(events).toMatchObject([{ kind: "not-started", detail: expect.stringContaining("sandbox") }]);
  await execution.stop();
});

test("a relay that does not end with the tree is ended", async () => {
  await bench.start();
  const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-00000000beef");
  const host = hostOf(attempt);
  const execution = new Execution(
    { clock: systemClock, logger: silentLogger, onEvent: () => undefined, onDrained: () => undefined },
    // It computes, so it might be storing: it is given as long as the tree is.
    { attempt, facts: undefined, host, verifyMs: 200 },
  );
  const stuck = spawn("/bin/sh", ["-c", "trap '' INT TERM; while :; do :; done"], { stdio: "ignore" });
  const pid = stuck.pid ?? 0;
  const relay = `${pid} ${readProcess(pid)?.startTicks ?? ""}`;
  await mkdir(join(host.folder.path, "run"), { recursive: true });
  await writeFile(join(host.folder.path, "run", "shim"), "1 4194304 1 1.00 .\n");
  await writeFile(join(host.folder.path, "run", "relays"), `1 ${relay} ${relay} .\n`);
  await writeFile(join(host.folder.path, "exit"), "1 0 5.25 [1] + Done .\n");
  const ended = once(stuck, "exit");
  await execution.perform({ kind: "sweep" });
  expect(await ended).toEqual([null, "SIGKILL"]);
  await execution.stop();
});

const exit = "1 0 5.25 [1] + Done .\n";

test.each([
  ["an empty group of a script that has ended", { group: "....\n", exit, procs: "empty" }, 0],
  ["a group that cannot be read", { group: "....\n", exit, procs: "unreadable" }, 1],
  ["an empty group that the script did not enter", { group: "outside\n", exit, procs: "empty" }, 1],
  ["an empty group of a script on its way into it", { group: "....\n", exit: "....\n", procs: "empty" }, 1],
])("beside %s, what carries the attempt's id counts as its own or not", async (_name, files, count) => {
  await bench.start();
  const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-00000000beef");
  const { path } = hostOf(attempt).folder;
  await mkdir(join(path, "run"), { recursive: true });
  await mkdir(bench.path("empty-group"));
  // What reads as neither empty nor full stands for a group of threads.
  if (files.procs === "unreadable") await mkdir(bench.path("empty-group", "cgroup.events"));
  else await writeFile(bench.path("empty-group", "cgroup.events"), "populated 0\nfrozen 0\n");
  await writeFile(join(path, "cgroup"), `tree 2 ${bench.path("empty-group")}\n`);
  await writeFile(join(path, "run", "group"), files.group);
  await writeFile(join(path, "exit"), files.exit);
  const stray = spawn("sleep", ["300"], { detached: true, stdio: "ignore", env: { HOLDFAST_ATTEMPT_ID: attempt } });
  const tree = { attempt, shim: undefined, relays: () => [], isConcluding: () => true, ending: "swept" } as const;
  expect(hostOf(attempt).processes.membersOf(tree)).toHaveLength(count);
  expect(hostOf(attempt).processes.membersOf({ ...tree, ending: "killed" })).toHaveLength(1);
  stray.kill("SIGKILL");
});

test("what an attempt waits for is tried again when the host refused it", async () => {
  await bench.start();
  await bench.agent({ slots: 1 });
  const running = await bench.node.run("sleep 30");
  await bench.store.until("started", () => bench.store.row(running).started > 0);
  const waiting = await bench.node.run("true", {}, { ignoreCredit: true });
  await bench.store.until("accepted", () => bench.store.row(waiting).accepted > 0);
  // Where the gate should be made there is a file: declaring it never started fails.
  const folder = bench.path("attempts", waiting);
  await bench.store.until("the folder", () => existsSync(join(folder, "work")));
  await rename(folder, `${folder}.away`);
  await writeFile(folder, "");
  bench.node.send({ type: "cancel", items: [{ attempt: waiting, graceMs: 0 }] });
  await bench.store.until("a failure", () => undefined, 300).catch(() => undefined);
  expect(bench.store.row(waiting).result).toBeUndefined();
  await rm(folder);
  expect(await result(waiting, 5_000)).toMatchObject({ outcome: "cancelled", reason: "never-started" });
});

test("the hello tells the package's version", async () => {
  await bench.start();
  await bench.agent();
  await bench.store.until("a session", () => bench.node.session);
  expect(bench.node.session?.hello.version).toBe(ownVersion());
});

describe("a journal that cannot be rewritten", () => {
  const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-000000000001");
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "holdfast-journal-"));
  });

  afterEach(() => rm(folder, { recursive: true, force: true }));

  async function openJournal(path: string): Promise<Journal> {
    const options = { path, hostBootId: "boot", compactBytes: 20_000 };
    const journal = new Journal({ logger: silentLogger, random: new SystemRandom() }, options);
    await journal.open();
    return journal;
  }

  /** Descriptors of this process that lead to the journal or to what was to replace it. */
  const descriptors = (): number =>
    readdirSync("/proc/self/fd").filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(join(folder, "journal"));
      } catch {
        return false;
      }
    }).length;

  const fill = async (journal: Journal, from: number, to: number): Promise<void> => {
    for (let homeNo = from; homeNo < to; homeNo += 1) await journal.append({ kind: "home", attempt, homeNo });
  };

  test("goes on in the old file, leaks nothing, and is rewritten when it can be", async () => {
    const path = join(folder, "journal");
    const journal = await openJournal(path);
    await mkdir(`${path}.new`);
    await fill(journal, 1, 400);
    const grown = (await readFile(path)).length;
    expect(grown).toBeGreaterThan(30_000);
    expect(descriptors()).toBe(1);
    await rmdir(`${path}.new`);
    await fill(journal, 400, 2_000);
    const bytes = await readFile(path);
    expect(bytes.length).toBeLessThan(grown * 2);
    expect(descriptors()).toBe(1);
    await journal.close();
    expect(descriptors()).toBe(0);
    const again = await openJournal(path);
    expect(again.state.open.get(attempt)?.homeNo).toBe(1_999);
    expect(again.boot.counter).toBe(2);
    await again.close();
  });

  test.runIf(isRoot)("for want of room leaves no half file and keeps every record", async () => {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "none", folder]);
    try {
      const path = join(folder, "journal");
      const journal = await openJournal(path);
      // A state of three pages, which is to be rewritten where two are free.
      for (let no = 0; no < 120; no += 1) {
        const other = attemptIdSchema.parse(`00000000-0000-7000-8000-${String(1_000 + no).padStart(12, "0")}`);
        await journal.append({ kind: "home", attempt: other, homeNo: 2 });
      }
      while ((await readFile(path)).length < 19_500) await journal.append({ kind: "home", attempt, homeNo: 1 });
      const { bavail } = await statfs(folder);
      await writeFile(join(folder, "ballast"), Buffer.alloc((bavail - 2) * 4_096));
      await fill(journal, 1, 60);
      expect((await readFile(path)).length).toBeGreaterThan(20_000);
      expect(readdirSync(folder)).not.toContain("journal.new");
      await rm(join(folder, "ballast"));
      await fill(journal, 60, 1_500);
      await journal.close();
      expect((await readFile(path)).length).toBeLessThan(150_000);
      const again = await openJournal(path);
      expect(again.state.open.size).toBe(121);
      expect(again.state.open.get(attempt)?.homeNo).toBe(1_499);
      await again.close();
    } finally {
      execFileSync("umount", [folder]);
    }
  });
});
