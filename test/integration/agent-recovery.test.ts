// The agent's death and the nodes' death while scripts run: one start, a complete log and a result, whatever dies.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../shared/clock.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { storedSha256 } from "../fakes/node-server.ts";
import type { AttemptRow } from "../fakes/node-server.ts";
import { eventually } from "../harness/eventually.ts";
import { seeded } from "../harness/seeded.ts";

let bench: AgentBench;
type Finished = AttemptRow & { result: NonNullable<AttemptRow["result"]> };

beforeEach(() => {
  bench = new AgentBench();
});

afterEach(() => bench.stop());

async function finished(attempt: AttemptId, withinMs = 20_000): Promise<Finished> {
  const row = await bench.store.until(
    `the result of ${attempt}`,
    () => bench.store.rows.get(attempt)?.result && bench.store.rows.get(attempt),
    withinMs,
  );
  if (row?.result === undefined) throw new Error("no result");
  expect([row.out.next, row.err.next]).toEqual([row.result.out.length, row.result.err.length]);
  expect(storedSha256(row.out)).toBe(row.result.out.sha256);
  return { ...row, result: row.result };
}

/** Writes numbered lines to its output and to a file, until a file says that it may end. */
function countingScript(): string {
  return `echo $HOLDFAST_ATTEMPT_ID >> ${bench.path("starts")}
i=0; while [ ! -e ${bench.path("go")} ]; do
  for _ in 1 2 3 4 5 6 7 8; do i=$((i+1)); echo "line $i"; echo "line $i" >> ${bench.path("truth")}; done; sleep 0.02
done; exit 5`;
}

async function expectTruth(row: Finished): Promise<void> {
  const truth = await readFile(bench.path("truth"));
  expect(row.result).toMatchObject({ outcome: "failed", exitCode: 5 });
  expect(row.result.out).toEqual({ length: truth.length, sha256: createHash("sha256").update(truth).digest("hex") });
  expect(await bench.truth("starts")).toEqual([row.attempt]);
}

const lines = (attempt: AttemptId, count: number): Promise<true> =>
  bench.store.until(
    `${count} lines`,
    () => bench.store.row(attempt).out.bytes.includes(`line ${count}\n`) || undefined,
  );

describe("an agent process", () => {
  test("killed with -9 mid-script leaves it running, and the next one adopts it with its whole log", async () => {
    await bench.start();
    const first = bench.process();
    const attempt = await bench.node.run(countingScript());
    await lines(attempt, 20);
    await bench.kill(first);
    const before = (await bench.truth("truth")).length;
    await eventually("the script goes on", async () => {
      const { length } = await bench.truth("truth");
      return { done: length > before, state: length };
    });
    bench.process();
    await lines(attempt, before + 20);
    await writeFile(bench.path("go"), "");
    await expectTruth(await finished(attempt));
  });

  test("killed again and again at random moments never starts a script twice", async () => {
    const seed = Number(process.env["HOLDFAST_SEED"] ?? 1);
    const random = seeded(seed);
    process.stdout.write(`killed again and again: seed ${seed}\n`);
    await bench.start();
    let agent = bench.process();
    const attempts: AttemptId[] = [];
    for (let round = 0; round < 6; round += 1) {
      await bench.store.until("a session", () => bench.node.session);
      for (let more = 0; more < 3; more += 1) {
        attempts.push(
          await bench.node.run(
            `echo $HOLDFAST_ATTEMPT_ID >> ${bench.path("starts")}; sleep 0.05; echo end`,
            {},
            { ignoreCredit: true },
          ),
        );
      }
      // Not a wait for anything: the moment of the death is what is tested.
      await systemClock.sleep(random() * 25);
      await bench.kill(agent);
      // An offer to the session of the dead one would be made to nobody.
      await bench.store.until("the end of its session", () => bench.node.session === undefined);
      agent = bench.process();
      await bench.store.until("a session", () => bench.node.session);
      // What was never accepted is offered again, as a node does.
      for (const attempt of attempts) {
        if (bench.store.row(attempt).result === undefined)
          await bench.node.run(
            `echo $HOLDFAST_ATTEMPT_ID >> ${bench.path("starts")}; sleep 0.05; echo end`,
            {},
            { attempt, ignoreCredit: true, offerNo: 2 },
          );
      }
    }
    for (const attempt of attempts) {
      const { result } = await finished(attempt);
      expect(result.outcome).toBe("succeeded");
    }
    expect((await bench.truth("starts")).toSorted()).toEqual(attempts.toSorted());
  });

  test("killed after the script ended delivers the result at its next start", async () => {
    await bench.start();
    bench.store.acknowledges = false;
    const first = bench.process();
    const attempt = await bench.node.run("echo out; exit 9");
    await bench.store.until("a first result", () => bench.store.row(attempt).resultsSeen > 0);
    await bench.kill(first);
    bench.store.acknowledges = true;
    bench.process();
    const { result } = await finished(attempt);
    expect(result).toMatchObject({ exitCode: 9 });
  });

  test("ended by a first TERM exits 0 and leaves the script running", async () => {
    await bench.start();
    const first = bench.process();
    const attempt = await bench.node.run(countingScript());
    await lines(attempt, 5);
    first.kill("SIGTERM");
    const [code] = (await once(first, "exit")) as [number];
    expect(code).toBe(0);
    bench.process();
    await writeFile(bench.path("go"), "");
    await expectTruth(await finished(attempt));
  });

  test("is the only one on its data directory, and its lock goes with a kill -9", async () => {
    await bench.start();
    const first = bench.process();
    await bench.store.until("a session", () => bench.node.session);
    await expect(bench.agent()).rejects.toMatchObject({
      code: "journal.locked",
      message: expect.stringContaining(String(first.pid)),
    });
    await bench.kill(first);
    await bench.agent();
  });

  test("keeps its deadline over a restart", async () => {
    await bench.start();
    const first = bench.process();
    const attempt = await bench.node.run("echo line 1; sleep 60", { timeoutMs: 1_500, graceMs: 0 });
    await lines(attempt, 1);
    await bench.kill(first);
    bench.process();
    const { result } = await finished(attempt);
    expect(result).toMatchObject({ outcome: "timed-out" });
    expect(result.durationMs).toBeGreaterThan(1_400);
    expect(result.durationMs).toBeLessThan(4_000);
  });

  test("finishes a cancel that its predecessor had only recorded", async () => {
    await bench.start();
    const first = bench.process();
    const attempt = await bench.node.run("trap '' TERM; echo line 1; while :; do sleep 0.1; done", {});
    await lines(attempt, 1);
    bench.node.send({ type: "cancel", items: [{ attempt, graceMs: 1_500 }] });
    await bench.journaled("cancelling");
    await bench.kill(first);
    bench.process();
    expect((await finished(attempt)).result).toMatchObject({ outcome: "cancelled" });
  });
});

test("a pid that belongs to another process by now is not adopted, and that process is left alone", async () => {
  await bench.start();
  const first = await bench.agent();
  const attempt = await bench.node.run("echo line 1; sleep 30");
  await lines(attempt, 1);
  await first.stop();
  const marker = bench.path("attempts", attempt, "run", "shim");
  const [, pid = "", , uptime = ""] = (await readFile(marker, "utf8")).split(" ");
  process.kill(-Number(pid), "SIGKILL");
  // Somebody else has the pid now: this very process, which started at another moment.
  await writeFile(marker, `1 ${process.pid} 1 ${uptime} .\n`);
  await bench.agent();
  expect((await finished(attempt)).result).toMatchObject({ outcome: "interrupted", reason: "shim-died" });
});

describe("after a reboot of the host", () => {
  test("a script that was running is interrupted with the log it had, and never started again", async () => {
    await bench.start();
    const first = await bench.agent({}, { hostBootId: "boot-1" });
    const attempt = await bench.node.run(`echo $HOLDFAST_ATTEMPT_ID >> ${bench.path("starts")}; echo line 1; sleep 30`);
    await lines(attempt, 1);
    await first.stop();
    await bench.agent({}, { hostBootId: "boot-2" });
    const { result } = await finished(attempt);
    expect(result).toMatchObject({ outcome: "interrupted", reason: "host-reboot", exitCode: null });
    expect(await bench.truth("starts")).toEqual([attempt]);
  });

  test("an attempt that waited for a slot starts", async () => {
    await bench.start();
    const first = await bench.agent({ slots: 1 }, { hostBootId: "boot-1" });
    const running = await bench.node.run("echo line 1; sleep 30");
    await lines(running, 1);
    const waiting = await bench.node.run("echo waited", {}, { ignoreCredit: true });
    await bench.store.until("accept", () => bench.store.row(waiting).accepted === 1);
    await first.stop();
    await bench.agent({ slots: 1 }, { hostBootId: "boot-2" });
    expect((await finished(waiting)).result).toMatchObject({ outcome: "succeeded" });
    expect((await finished(running)).result).toMatchObject({ outcome: "interrupted" });
  });
});

describe("nodes", () => {
  test("that die one after another leave a log without gap or double byte", async () => {
    await bench.start(3);
    await bench.agent();
    const [a, b, c] = bench.nodes;
    if (a === undefined || b === undefined || c === undefined) throw new Error("three nodes");
    await bench.store.until("three sessions", () => a.session && b.session && c.session);
    const attempt = await a.run(countingScript());
    await lines(attempt, 10);
    await a.stop();
    await lines(attempt, 200);
    const second = bench.nodes.find(({ id }) => id === bench.store.row(attempt).node);
    expect(second).not.toBe(a);
    await second?.stop();
    await lines(attempt, 400);
    expect(bench.store.row(attempt).homeNo).toBe(3);
    await writeFile(bench.path("go"), "");
    await expectTruth(await finished(attempt));
  });

  test("that all vanish get log and result after the first returns", async () => {
    await bench.start(2);
    await bench.agent();
    await bench.store.until("two sessions", () => bench.nodes.every(({ session }) => session !== undefined));
    const attempt = await bench.node.run(countingScript());
    await lines(attempt, 10);
    for (const node of bench.nodes) await node.stop();
    await writeFile(bench.path("go"), "");
    await eventually("the script has ended with no node there", () => {
      const exit = bench.attemptFolder(attempt).exit();
      return { done: exit !== undefined, state: exit };
    });
    await bench.nodes[1]?.start();
    await expectTruth(await finished(attempt));
  });

  test("that do not acknowledge a result get it through another node", async () => {
    await bench.start(2);
    await bench.agent({ roster: { resendFirstMs: 200 } });
    await bench.store.until("two sessions", () => bench.nodes.every(({ session }) => session !== undefined));
    bench.store.acknowledges = false;
    const attempt = await bench.node.run("echo x");
    await bench.store.until(
      "a second node's turn",
      () => bench.store.row(attempt).homeNo >= 2 && bench.store.row(attempt).resultsSeen >= 2,
    );
    expect(bench.store.row(attempt).node).not.toBe(bench.node.id);
    bench.store.acknowledges = true;
    await finished(attempt);
  });

  test("that say go-away lose homes and credit while another stays", async () => {
    await bench.start(2);
    await bench.agent();
    const [a, b] = bench.nodes;
    if (a === undefined || b === undefined) throw new Error("two nodes");
    await bench.store.until("two sessions", () => a.session && b.session);
    const attempt = await a.run(countingScript());
    await lines(attempt, 5);
    a.send({ type: "go-away", afterMs: 0, reason: "test" });
    await bench.store.until("the move", () => bench.store.row(attempt).node === b.id && a.session === undefined);
    await writeFile(bench.path("go"), "");
    await expectTruth(await finished(attempt));
  });

  test("that answer 503 are dialled again after their Retry-After", async () => {
    await bench.start(1, { busy: { times: 1, retryAfterSeconds: 1 } });
    const begun = systemClock.monotonicMs();
    await bench.agent();
    await bench.store.until("a session", () => bench.node.session);
    expect(systemClock.monotonicMs() - begun).toBeGreaterThanOrEqual(1_000);
  });

  test.each([
    ["superseded", closeCode.superseded, "agent.superseded"],
    ["quarantined", closeCode.quarantined, "agent.quarantined"],
    ["refused", closeCode.refused, "agent.revoked"],
  ])("that close with %s are not dialled again", async (_name, refuseWith, code) => {
    await bench.start(1, { refuseWith });
    const fatal = Promise.withResolvers<unknown>();
    const agent = await bench.agent({}, { onFatal: fatal.resolve });
    expect(await fatal.promise).toMatchObject({ code });
    expect(bench.node.hellos.length).toBe(1);
    expect(agent.status().nodes[0]?.state).toBe("stopped");
  });

  test("get a boot counter that grows and a journal id that stays", async () => {
    await bench.start();
    const first = await bench.agent();
    await bench.store.until("a session", () => bench.node.session);
    await first.stop();
    await bench.agent();
    await bench.store.until("a second hello", () => bench.node.hellos.length === 2);
    const [one, two] = bench.node.hellos;
    expect(two?.bootCounter).toBe((one?.bootCounter ?? 0) + 1);
    expect(two?.journalId).toBe(one?.journalId);
    expect(two?.bootId).not.toBe(one?.bootId);
  });
});

describe("a damaged journal", () => {
  test("takes no work and still uploads the results it holds", async () => {
    await bench.start();
    bench.store.acknowledges = false;
    const first = await bench.agent();
    const attempt = await bench.node.run("echo x; exit 2");
    await bench.store.until("the result", () => bench.store.row(attempt).resultsSeen > 0);
    await first.stop();
    const journal = await readFile(bench.path("journal"));
    // In the attempt's own intent: its result, behind the damage, is still readable.
    const at = journal.indexOf('"kind":"intent"');
    journal[at + 3] = (journal[at + 3] ?? 0) ^ 1;
    await writeFile(bench.path("journal"), journal);
    bench.store.acknowledges = true;
    const second = await bench.agent();
    expect(second.status().state).toBe("quarantined");
    expect((await finished(attempt)).result).toMatchObject({ exitCode: 2 });
    expect(bench.node.session?.credit).toEqual({ work: 0, system: 0 });
    const refused = await bench.node.run("true", {}, { ignoreCredit: true });
    await bench.store.until("the refusal", () => bench.store.row(refused).refusals[0]);
    expect(await readFile(bench.path("journal"))).toEqual(journal);
  });
});

describe("disk", () => {
  test("without room refuses offers for later and keeps running scripts", async () => {
    await bench.start();
    await bench.agent({ freeBytesAtLeast: Number.MAX_SAFE_INTEGER / 4 });
    const attempt = await bench.node.run("true");
    await bench.store.until("the refusal", () => bench.store.row(attempt).refusals[0]);
    expect(bench.store.row(attempt).refusals[0]).toMatchObject({ class: "later", reason: "disk-full" });
  });

  test("keeps no folder of an attempt after its result was closed", async () => {
    await bench.start();
    await bench.agent({ roster: { keepAcknowledgedMs: 100 } });
    const attempt = await bench.node.run("echo x");
    await finished(attempt);
    await mkdir(bench.path("attempts"), { recursive: true });
    await eventually("no folder is left", async () => {
      const folders = await readdir(bench.path("attempts"));
      return { done: folders.length === 0, state: folders };
    });
    await bench.node.run("echo x", {}, { attempt });
    await bench.store.until("collected", () => bench.store.row(attempt).states[0]?.state === "collected");
    await rm(bench.path("go"), { force: true });
  });
});
