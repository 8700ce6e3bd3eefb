// Two updates at one folder of versions, with real locks.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DataLock } from "../../agent/data-lock.ts";
import { hostBootId } from "../../agent/host.ts";
import { takeTurn } from "../../agent/update/update-turn.ts";
import { systemClock } from "../../shared/clock.ts";

let folder = "";
let told: string[];
/** Sleeps are counted, and last as long as one turn of the event loop. */
let sleeps: number;
let nowMs: number;
const clock = {
  monotonicMs: () => nowMs,
  sleep: async (ms: number, signal?: AbortSignal) => {
    sleeps += 1;
    nowMs += ms;
    await systemClock.sleep(0, signal);
  },
};
const deps = { clock, tell: (line: string) => Promise.resolve(void told.push(line)) };
const lock = () => new DataLock({ path: join(folder, "update.lock"), hostBootId: hostBootId() });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-turn-"));
  [told, sleeps, nowMs] = [[], 0, 0];
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("with nobody at work there is nothing to wait for, and nothing is said", async () => {
  const own = lock();
  await takeTurn(own, deps);
  expect([told, sleeps]).toEqual([[], 0]);
  await expect(lock().start()).rejects.toMatchObject({ code: "journal.locked" });
  await own.stop();
});

test("the second says once that it waits, and goes on when the first has come to its end", async () => {
  const [first, second] = [lock(), lock()];
  await first.start();
  const turn = takeTurn(second, deps);
  await expect.poll(() => sleeps).toBeGreaterThan(3);
  expect(told).toEqual([expect.stringContaining("another update of this executable is under way")]);
  await first.stop();
  await turn;
  expect(told).toHaveLength(1);
  await expect(lock().start()).rejects.toMatchObject({ code: "journal.locked" });
  await second.stop();
});

test("an update that never ends is not waited for for ever", async () => {
  const first = lock();
  await first.start();
  await expect(takeTurn(lock(), deps, 5_000)).rejects.toMatchObject({ code: "journal.locked" });
  expect(nowMs).toBe(5_000);
  await first.stop();
});

test("who is told to end stops waiting, and holds nothing", async () => {
  const first = lock();
  await first.start();
  const ending = new AbortController();
  const turn = takeTurn(lock(), { ...deps, signal: ending.signal });
  await expect.poll(() => sleeps).toBeGreaterThan(0);
  ending.abort(new Error("asked to end"));
  await expect(turn).rejects.toThrow("asked to end");
  await first.stop();
  const after = lock();
  await after.start();
  await after.stop();
});
