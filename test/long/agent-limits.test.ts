// What a script may do to its agent: flood it, fill its disk; and an agent killed at the narrowest moment.
import { execFileSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../shared/clock.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { defaultSpoolBounds } from "../../agent/segments.ts";
import { streamBlockBytes, streamMostBytes } from "../harness/stream-disk.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { storedSha256 } from "../fakes/node-server.ts";
import type { AttemptRow } from "../fakes/node-server.ts";

let bench: AgentBench;
const isRoot = process.getuid?.() === 0;

beforeEach(() => {
  bench = new AgentBench();
});

afterEach(() => bench.stop());

async function finished(
  attempt: AttemptId,
  withinMs = 30_000,
): Promise<AttemptRow & { result: NonNullable<AttemptRow["result"]> }> {
  const row = await bench.store.until(
    `the result of ${attempt}`,
    () => bench.store.rows.get(attempt)?.result && bench.store.rows.get(attempt),
    withinMs,
  );
  if (row?.result === undefined) throw new Error("no result");
  return { ...row, result: row.result };
}

test("a log flood keeps disk, memory and the other tasks' latency within bounds and is told exactly", async () => {
  await bench.start(1, { parent: tmpdir() });
  bench.store.keptBytes = 1_000;
  await bench.agent();
  const rssBefore = process.memoryUsage().rss;
  const attempt = await bench.node.run("timeout 3 yes; echo over >&2");
  const seen = { diskBytes: 0, rss: 0 };
  const latencies: number[] = [];
  const watch = systemClock.every(50, () => {
    seen.rss = Math.max(seen.rss, process.memoryUsage().rss);
    seen.diskBytes = Math.max(seen.diskBytes, streamBlockBytes(bench.path("attempts", attempt, "out")));
  });
  while (bench.store.row(attempt).result === undefined) {
    const begunMs = systemClock.monotonicMs();
    await finished(await bench.node.offer({ kind: "no-op" }));
    latencies.push(systemClock.monotonicMs() - begunMs);
    // The pace of the samples, not a wait: what is looked at is how long each no-op takes beside the flood.
    await systemClock.sleep(20);
  }
  watch.cancel();
  const { out, err, result } = await finished(attempt);
  expect(result.out.length).toBeGreaterThan(100e6);
  expect(out.next).toBe(result.out.length);
  expect(out.omitted).toBeGreaterThan(0);
  expect(storedSha256(out)).toBe(result.out.sha256);
  expect(err.next).toBe(5);
  expect(seen.diskBytes).toBeGreaterThan(32 * 1024 * 1024);
  expect(seen.diskBytes).toBeLessThanOrEqual(streamMostBytes(defaultSpoolBounds));
  expect(seen.rss - rssBefore).toBeLessThan(150e6);
  expect(latencies.toSorted((a, b) => a - b)[Math.floor(latencies.length / 2)]).toBeLessThan(250);
});

test.runIf(isRoot)("a full disk does not cost a running script its result", async () => {
  const mount = await mkdtemp(join(tmpdir(), "holdfast-small-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=24m", "none", mount]);
  try {
    await bench.start(1, { parent: mount });
    await bench.agent({ reserveBytes: 4 * 1024 * 1024, freeBytesAtLeast: 4 * 1024 * 1024 });
    await bench.store.until(
      "the reserve",
      () => existsSync(bench.path("reserve")) && statSync(bench.path("reserve")).size === 4 * 1024 * 1024,
    );
    const attempt = await bench.node.run(
      `echo begun; dd if=/dev/zero of=${bench.path("fill")} bs=64k 2>/dev/null; echo lost; exit 6`,
    );
    const { result } = await finished(attempt);
    expect(result).toMatchObject({ outcome: "failed", exitCode: 6 });
    await bench.store.until("the disk to be measured", () => undefined, 700).catch(() => undefined);
    const refused = await bench.node.run("true");
    await bench.store.until("the refusal", () => bench.store.row(refused).refusals[0]);
    expect(bench.store.row(refused).refusals[0]).toMatchObject({ class: "later", reason: "disk-full" });
    await rm(bench.path("fill"));
    await bench.store.until("the disk to be measured", () => undefined, 700).catch(() => undefined);
    expect((await finished(await bench.node.run("exit 0"))).result.outcome).toBe("succeeded");
  } finally {
    await bench.stop();
    execFileSync("umount", [mount]);
    await rm(mount, { recursive: true, force: true });
  }
});

test("an agent killed as the gate is won, before it knows of the start, starts the script once", async () => {
  await bench.start();
  for (let round = 0; round < 5; round += 1) {
    const agent = bench.process();
    await bench.store.until("a session", () => bench.node.session);
    const attempt = await bench.node.run(
      `echo $HOLDFAST_ATTEMPT_ID >> ${bench.path("starts")}; sleep 0.6; echo end`,
      {},
      { ignoreCredit: true },
    );
    const gate = bench.path("attempts", attempt, "run");
    // Looked at each turn of the loop: between the gate and the signature lie a few milliseconds only.
    await new Promise<void>((resolve, reject) => {
      const deadlineMs = systemClock.monotonicMs() + 5_000;
      const look = (): void => {
        if (existsSync(gate)) resolve();
        else if (systemClock.monotonicMs() > deadlineMs) reject(new Error(`no gate\n${bench.store.describe()}`));
        else setImmediate(look);
      };
      look();
    });
    await bench.kill(agent);
    const next = bench.process();
    const { result, out } = await finished(attempt);
    expect(result.outcome).toBe("succeeded");
    expect(out.bytes.toString()).toBe("end\n");
    expect((await bench.truth("starts")).filter((line) => line === attempt)).toEqual([attempt]);
    await bench.kill(next);
  }
});

test("many scripts and no-ops at once all finish once", async () => {
  await bench.start(2);
  await bench.agent();
  await bench.store.until("two sessions", () => bench.nodes.every(({ session }) => session !== undefined));
  const attempts: AttemptId[] = [];
  for (let no = 0; no < 60; no += 1) {
    const node = bench.nodes[no % 2] ?? bench.node;
    attempts.push(
      no % 3 === 0
        ? await node.offer({ kind: "no-op" })
        : await node.run(`echo ${no} >> ${bench.path("starts")}; echo ${no}`),
    );
  }
  for (const attempt of attempts) expect((await finished(attempt)).result.outcome).toBe("succeeded");
  expect(await bench.truth("starts")).toHaveLength(40);
});
