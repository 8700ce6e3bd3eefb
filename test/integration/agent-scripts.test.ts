// Real scripts on a real agent, which speaks to a fake node over real mutual TLS.
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { listProcesses } from "../../agent/process-table.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { attemptIdSchema, createIdSource, newId } from "../../shared/ids.ts";
import { systemClock } from "../../shared/clock.ts";
import { SystemRandom } from "../../shared/random.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { storedSha256 } from "../fakes/node-server.ts";
import type { AttemptRow } from "../fakes/node-server.ts";
import { eventually } from "../harness/eventually.ts";

let bench: AgentBench;
const ids = createIdSource({ clock: systemClock, random: new SystemRandom() });
type Finished = AttemptRow & { result: NonNullable<AttemptRow["result"]> };

beforeEach(async () => {
  bench = new AgentBench();
  await bench.start();
});

afterEach(() => bench.stop());

async function finished(attempt: AttemptId, withinMs?: number): Promise<Finished> {
  const row = await bench.store.until(
    `the result of ${attempt}`,
    () => bench.store.rows.get(attempt)?.result && bench.store.rows.get(attempt),
    withinMs,
  );
  if (row?.result === undefined) throw new Error("no result");
  const end = { out: row.result.out, err: row.result.err };
  expect([row.out.next, row.err.next]).toEqual([end.out.length, end.err.length]);
  expect(storedSha256(row.out)).toBe(end.out.sha256);
  expect(storedSha256(row.err)).toBe(end.err.sha256);
  return { ...row, result: row.result };
}

/** Pids that carry the attempt's mark. */
async function survivors(attempt: AttemptId): Promise<number[]> {
  const marked = await Promise.all(
    listProcesses().map(async ({ pid }) => {
      const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
      return environment.includes(`HOLDFAST_ATTEMPT_ID=${attempt}`) ? [pid] : [];
    }),
  );
  return marked.flat();
}

function output(attempt: AttemptId, text: string): Promise<true> {
  return bench.store.until(`output ${text}`, () => bench.store.row(attempt).out.bytes.includes(text) || undefined);
}

test("a script's output, error output and exit code arrive complete", async () => {
  await bench.agent();
  const attempt = await bench.node.run("echo out; echo err >&2; exit 3");
  const { out, err, result, accepted, started } = await finished(attempt);
  expect(out.bytes.toString()).toBe("out\n");
  expect(err.bytes.toString()).toBe("err\n");
  expect(result).toMatchObject({ outcome: "failed", reason: "exit-code", exitCode: 3, signal: null });
  expect(result.out).toEqual({ length: 4, sha256: createHash("sha256").update("out\n").digest("hex") });
  expect({ accepted, started }).toEqual({ accepted: 1, started: 1 });
});

test("arguments, environment and working directory reach the script, the agent's own settings do not", async () => {
  await bench.agent({ environment: { ...process.env, HOLDFAST_API_KEY: "secret", NOTIFY_SOCKET: "/run/x" } });
  const script =
    'printf "%s|" "$1" "$2" "$K" "$PWD" "$HOLDFAST_AGENT" "$HOLDFAST_ATTEMPT" "$HOLDFAST_API_KEY$NOTIFY_SOCKET"';
  const attempt = await bench.node.run(script, { args: ["a b", "$c"], env: { K: "v '\"" }, cwd: "/usr" });
  const { out } = await finished(attempt);
  expect(out.bytes.toString()).toBe("a b|$c|v '\"|/usr|web-01|1||");
});

test("a path of the script's own does not break the shim", async () => {
  await bench.agent();
  const attempt = await bench.node.run("echo $PATH", { env: { PATH: "/nowhere" }, interpreter: "sh" });
  expect((await finished(attempt)).out.bytes.toString()).toBe("/nowhere\n");
});

test.each([
  ["kill -KILL $$", { exitCode: null, signal: "SIGKILL", outcome: "failed", reason: "signal" }],
  ["kill -TERM $$", { exitCode: null, signal: "SIGTERM", outcome: "failed" }],
  ["kill -INT $$", { exitCode: null, signal: "SIGINT", outcome: "failed" }],
  ["exit 137", { exitCode: 137, signal: null, outcome: "failed", reason: "exit-code" }],
  ["exit 130", { exitCode: 130, signal: null, outcome: "failed" }],
  ["sleep 9 & kill -9 $!; wait $!; exit 0", { exitCode: 0, signal: null, outcome: "succeeded" }],
])("the end of `%s` is told exactly", async (script, expected) => {
  await bench.agent();
  const attempt = await bench.node.run(script);
  expect((await finished(attempt)).result).toMatchObject(expected);
});

test.each([
  ["sh", "echo $((1+1))", "2\n"],
  ["python3", "print(1+1)", "2\n"],
  ["node", "console.log(1+1)", "2\n"],
])("%s runs its own language", async (interpreter, script, expected) => {
  await bench.agent();
  const attempt = await bench.node.run(script, { interpreter });
  expect((await finished(attempt)).out.bytes.toString()).toBe(expected);
});

test("a missing interpreter is refused for good, and again when it is offered again", async () => {
  await bench.agent();
  const attempt = await bench.node.run("x", { interpreter: "pwsh-not-there" });
  await bench.store.until("the refusal", () => bench.store.row(attempt).refusals.length === 1);
  expect(bench.store.row(attempt).refusals[0]).toMatchObject({ class: "never", reason: "interpreter-missing" });
  await bench.node.run("x", { interpreter: "pwsh-not-there" }, { attempt, offerNo: 2 });
  await bench.store.until("the second refusal", () => bench.store.row(attempt).refusals.length === 2);
  expect(bench.store.row(attempt).refusals[1]).toMatchObject({
    offerNo: 2,
    class: "never",
    reason: "interpreter-missing",
  });
});

test("a time-out ends children and scripts that ignore TERM within the grace time and 2 s", async () => {
  await bench.agent();
  const started = systemClock.monotonicMs();
  const attempt = await bench.node.run("trap '' TERM; (trap '' TERM; sleep 60) & sleep 60; sleep 60", {
    timeoutMs: 500,
    graceMs: 300,
  });
  const { result } = await finished(attempt);
  expect(result).toMatchObject({ outcome: "timed-out", reason: "time-limit", exitCode: null, signal: "SIGKILL" });
  expect(systemClock.monotonicMs() - started).toBeLessThan(500 + 300 + 2_000);
  expect(await survivors(attempt)).toEqual([]);
});

test("a time-out lets a script that heeds TERM clean up", async () => {
  await bench.agent();
  const attempt = await bench.node.run("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done", {
    timeoutMs: 500,
    graceMs: 5_000,
  });
  const { result, out } = await finished(attempt);
  expect(result).toMatchObject({ outcome: "timed-out", exitCode: 7, signal: null });
  expect(out.bytes.toString()).toBe("up\nbye\n");
});

test("what a script says while it is ended arrives: its relays are not ended with it", async () => {
  const script =
    "trap 'for i in 1 2 3 4 5 6 7 8 9; do echo end $i; echo end $i > /dev/stderr; done; exit 9' TERM; echo ready; while :; do sleep 0.02; done";
  await bench.agent();
  const attempt = await bench.node.run(script, { graceMs: 5_000 });
  await output(attempt, "ready");
  bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 5_000 }] });
  const { out, err, result } = await finished(attempt);
  expect(result).toMatchObject({ outcome: "cancelled", exitCode: 9 });
  expect(Buffer.from(out.bytes).toString()).toMatch(/^ready\nend 1\n(end \d\n){7}end 9\n$/);
  expect(Buffer.from(err.bytes).toString()).toMatch(/end 1\n(end \d\n){7}end 9\n$/);
});

test("a child in a session of its own is killed as well", async () => {
  await bench.agent();
  const attempt = await bench.node.run("setsid sh -c 'trap \"\" TERM HUP; sleep 60' & echo up; sleep 60", {
    graceMs: 100,
  });
  await output(attempt, "up");
  bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 100 }] });
  expect((await finished(attempt)).result).toMatchObject({ outcome: "cancelled" });
  expect(await survivors(attempt)).toEqual([]);
});

test("output that a slow disk has not taken yet is waited for, and nothing is cut", async () => {
  await bench.agent();
  const go = bench.path("go");
  const attempt = await bench.node.run(`until [ -e '${go}' ]; do sleep 0.05; done; head -c 60000 /dev/zero; exit 3`);
  const relays = await eventually("the relays are named", () => {
    const marks = bench.attemptFolder(attempt).relays();
    return { done: marks.length === 2, state: marks };
  });
  const dd = await eventually("the relay reads", () => {
    const row = listProcesses().find(({ parent }) => parent === relays[0]?.pid);
    return { done: row !== undefined, state: row };
  });
  // As a disk does that takes nothing for a while.
  process.kill(dd?.pid ?? 0, "SIGSTOP");
  await writeFile(go, "");
  await eventually("the script is over", () => {
    const isOver = bench.attemptFolder(attempt).isConcluding();
    return { done: isOver, state: isOver };
  });
  await bench.store.until("a result", () => bench.store.row(attempt).result, 1_000).catch(() => undefined);
  expect(bench.store.row(attempt).result).toBeUndefined();
  process.kill(dd?.pid ?? 0, "SIGCONT");
  const { result, out } = await finished(attempt);
  expect(result).toMatchObject({ outcome: "failed", exitCode: 3 });
  expect(result.reason).not.toContain("lost");
  expect(out.bytes).toHaveLength(60_000);
});

test("a background child that keeps the output open neither delays the result nor survives it", async () => {
  await bench.agent();
  const started = systemClock.monotonicMs();
  const attempt = await bench.node.run("sleep 30 & echo done");
  const { result } = await finished(attempt);
  expect(result).toMatchObject({ outcome: "succeeded", exitCode: 0 });
  expect(systemClock.monotonicMs() - started).toBeLessThan(3_000);
  expect(await survivors(attempt)).toEqual([]);
});

test("a cancel during the run ends the script and is confirmed by its result", async () => {
  await bench.agent();
  const attempt = await bench.node.run("echo up; sleep 60");
  await output(attempt, "up");
  bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 1_000 }] });
  bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 1_000 }] });
  const { result } = await finished(attempt);
  expect(result).toMatchObject({ outcome: "cancelled", signal: "SIGTERM" });
  expect(await survivors(attempt)).toEqual([]);
});

test("a cancel after the end changes nothing and is answered with the result", async () => {
  await bench.agent();
  const attempt = await bench.node.run("exit 4");
  await finished(attempt);
  const { resultsSeen } = bench.store.row(attempt);
  bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 0 }] });
  await bench.store.until("the result again", () => bench.store.row(attempt).resultsSeen > resultsSeen);
  expect((await finished(attempt)).result).toMatchObject({ outcome: "failed", exitCode: 4 });
});

test("a cancel that overtakes its offer keeps the script from ever starting", async () => {
  await bench.agent();
  await bench.store.until("a session", () => bench.node.session);
  const attempt = newId(ids, attemptIdSchema);
  bench.store.row(attempt);
  bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 0 }] });
  expect((await finished(attempt)).result).toMatchObject({ outcome: "cancelled", startedAtMs: null });
  await bench.node.run(`echo ran >> ${bench.path("truth")}`, {}, { attempt });
  await bench.store.until("the result again", () => bench.store.row(attempt).resultsSeen > 1);
  expect(await bench.truth("truth")).toEqual([]);
});

test("an attempt that waits for a slot is cancelled without starting", async () => {
  await bench.agent({ slots: 1 });
  const first = await bench.node.run("echo up; sleep 30");
  await output(first, "up");
  const second = await bench.node.run(`echo ran >> ${bench.path("truth")}`, {}, { ignoreCredit: true });
  await bench.store.until("accept", () => bench.store.row(second).accepted === 1);
  expect(bench.store.row(second).started).toBe(0);
  bench.node.send({ type: "cancel", items: [{ attempt: second, graceMs: 0 }] });
  expect((await finished(second)).result).toMatchObject({
    outcome: "cancelled",
    startedAtMs: null,
    reason: "never-started",
  });
  bench.node.send({ type: "cancel", items: [{ attempt: first, graceMs: 0 }] });
  await finished(first);
  expect(await bench.truth("truth")).toEqual([]);
});

test("a waiting attempt starts when a slot becomes free, the system lane does not wait", async () => {
  await bench.agent({ slots: 1 });
  const first = await bench.node.run(`echo up; while [ ! -e ${bench.path("go")} ]; do sleep 0.02; done`);
  await output(first, "up");
  const second = await bench.node.run("echo second", {}, { ignoreCredit: true });
  const system = await bench.node.run(`touch ${bench.path("go")}; echo system`, {}, { lane: "system" });
  await Promise.all([finished(first), finished(second), finished(system)]);
});

test("an offer for another journal is refused, a repeated offer is answered by state and starts nothing", async () => {
  await bench.agent();
  const foreign = await bench.node.run("true", {}, { journalId: "00000000-0000-4000-8000-000000000001" as never });
  await bench.store.until("refusal", () => bench.store.row(foreign).refusals.length > 0);
  expect(bench.store.row(foreign).refusals[0]).toMatchObject({ class: "later", reason: "other-journal" });
  const script = `echo $HOLDFAST_ATTEMPT_ID >> ${bench.path("truth")}; echo up; sleep 30`;
  const attempt = await bench.node.run(script);
  await output(attempt, "up");
  await bench.node.run(script, {}, { attempt, offerNo: 2 });
  await bench.store.until("state", () => bench.store.row(attempt).states.length > 0);
  expect(bench.store.row(attempt).states[0]).toMatchObject({ state: "running", homeHere: true, homeNo: 1 });
  bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 0 }] });
  await finished(attempt);
  expect(await bench.truth("truth")).toEqual([attempt]);
});

test("an acknowledged result is sent again when a node inquires, an unheard-of attempt is unknown", async () => {
  await bench.agent();
  const attempt = await bench.node.run("echo kept");
  await finished(attempt);
  const unheard = newId(ids, attemptIdSchema);
  // The database forgot everything of the attempt, its log included.
  bench.store.rows.delete(attempt);
  bench.node.send({ type: "inquire", items: [attempt, unheard] });
  await bench.store.until("unknown", () => bench.store.row(unheard).states[0]?.state === "unknown");
  const { out } = await finished(attempt);
  expect(out.bytes.toString()).toBe("kept\n");
});

test("binary output arrives byte for byte", async () => {
  await bench.agent();
  const attempt = await bench.node.run(
    `(printf '\\000\\377\\300\\033[31m'; head -c 1000000 /dev/urandom) | tee ${bench.path("truth")}`,
  );
  const { result } = await finished(attempt);
  const truth = await readFile(bench.path("truth"));
  expect(truth.length).toBe(1_000_008);
  expect(result.out).toEqual({ length: truth.length, sha256: createHash("sha256").update(truth).digest("hex") });
});

test("a 100 MB line arrives with its middle omitted exactly, in flat memory", async () => {
  await bench.agent();
  const before = process.memoryUsage().rss;
  const attempt = await bench.node.run("head -c 100000000 /dev/zero | tr '\\0' x");
  const { result, out } = await finished(attempt, 60_000);
  expect(result.out.length).toBe(100_000_000);
  expect(out.next).toBe(100_000_000);
  expect(process.memoryUsage().rss - before).toBeLessThan(150e6);
});

test("a no-op is accepted and finished without a process", async () => {
  await bench.agent();
  const attempt = await bench.node.offer({ kind: "no-op" });
  const { result, accepted } = await finished(attempt);
  expect(result.outcome).toBe("succeeded");
  expect(accepted).toBe(1);
});

test("a stopping agent refuses offers and leaves its scripts running", async () => {
  const agent = await bench.agent();
  const attempt = await bench.node.run(`echo up; sleep 1; echo end >> ${bench.path("truth")}`);
  await output(attempt, "up");
  agent.drain();
  const late = await bench.node.run("true", {}, { ignoreCredit: true });
  await bench.store.until("refusal", () => bench.store.row(late).refusals[0]);
  expect(bench.store.row(late).refusals[0]).toMatchObject({ class: "later", reason: "stopping" });
  await agent.stop();
  const truth = await eventually("the script's end", async () => {
    const state = await bench.truth("truth");
    return { done: state.length > 0, state };
  });
  expect(truth).toEqual(["end"]);
  await bench.agent();
  expect((await finished(attempt)).result).toMatchObject({ outcome: "succeeded" });
});
