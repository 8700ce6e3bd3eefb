// Fault 35: the wall clock of an agent's host jumps a day ahead and two days back while scripts run. Only the calendar moves:
// what is measured (time-outs, heartbeats, back-off) goes by the monotonic clock.
import { globSync } from "node:fs";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { TestCluster } from "../harness/cluster.ts";
import { countedLines, countingScript, startsIn } from "../harness/script-truth.ts";

const [library] = globSync("/usr/lib/*/faketime/libfaketime.so.1");
const isSkipped = library === undefined && process.env["CI"] !== "true";
const dayMs = 86_400_000;

it.skipIf(isSkipped)("a day ahead and two days back cost neither the session, nor a log, nor a time-out", async () => {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-clock-"));
  const offsetFile = join(folder, "offset");
  const jump = async (seconds: string): Promise<void> => {
    await writeFile(`${offsetFile}.new`, `${seconds}\n`);
    await rename(`${offsetFile}.new`, offsetFile);
  };
  await jump("+0");
  const cluster = await TestCluster.start();
  try {
    const environment = {
      LD_PRELOAD: library ?? "",
      FAKETIME_TIMESTAMP_FILE: offsetFile,
      // The calendar alone, read anew each time; not the monotonic clock, nor the times of files.
      FAKETIME_NO_CACHE: "1",
      DONT_FAKE_MONOTONIC: "1",
      NO_FAKE_STAT: "1",
    };
    await cluster.startAgent({ name: "web-01", environment });
    const { client } = cluster;
    const sessions = async () =>
      (await client.agents.show("web-01")).nodes.map(({ since, state }) => ({ since, state }));
    const before = await sessions();
    const truth = join(folder, "truth");
    const counting = await client.run({
      on: "web-01",
      script: countingScript(truth, { count: 60, pauseSeconds: 0.1 }),
    });
    const submittedMs = performance.now();
    const lasting = await client.run({ on: "web-01", script: "sleep 600", timeoutMs: 4_000 });
    const clock = async (): Promise<number> => {
      const asked = await client.run({ on: "web-01", script: "date +%s%3N" });
      let text = "";
      for await (const line of asked.log()) text += line.text;
      return Number(text) - Date.now();
    };
    await jump("+86400");
    expect(await clock()).toBeGreaterThan(dayMs - 60_000);
    await jump("-86400");
    expect(await clock()).toBeLessThan(60_000 - dayMs);

    const [timedOut] = await lasting.results();
    expect(timedOut).toMatchObject({ state: "timed-out", attempts: [{ number: 1 }] });
    const ranMs = performance.now() - submittedMs;
    expect(ranMs).toBeGreaterThanOrEqual(4_000);
    expect(ranMs).toBeLessThan(60_000);
    let log = "";
    for await (const line of counting.log()) log += `${line.text}\n`;
    expect(log).toBe(countedLines(60));
    expect((await counting.results())[0]).toMatchObject({ state: "succeeded", attempts: [{ number: 1 }] });
    expect(startsIn(truth)).toBe(1);
    expect(await sessions()).toEqual(before);
  } finally {
    await cluster.stop();
    await rm(folder, { recursive: true, force: true });
  }
});
