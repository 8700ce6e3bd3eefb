// An agent that looks after an update which was cut off, on real folders and a real lock; its time runs a hundred times as fast.
import { mkdir, mkdtemp, readdir, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DataLock } from "../../agent/data-lock.ts";
import { hostBootId } from "../../agent/host.ts";
import { writeNote } from "../../agent/update/note.ts";
import { watchPending } from "../../agent/update/pending.ts";
import { systemClock, type Clock } from "../../shared/clock.ts";
import { silentLogger } from "../../shared/logger.ts";

let folder = "";
const stop = new AbortController();
const clock: Clock = {
  wallMs: () => systemClock.wallMs(),
  monotonicMs: () => systemClock.monotonicMs() * 100,
  sleep: (ms, signal) => systemClock.sleep(ms / 100, signal),
  after: (ms, act) => systemClock.after(ms / 100, act),
  every: (ms, act) => systemClock.every(ms / 100, act),
};

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-pending-"));
  for (const version of ["1-a", "2-b"]) {
    await mkdir(join(folder, "versions", version), { recursive: true });
    await writeFile(join(folder, "versions", version, "holdfast-agent"), "");
  }
  await symlink("versions/2-b", join(folder, "current"));
  await writeNote(folder, { from: "1-a", to: "2-b" });
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const watch = (runs: string, greeted: () => boolean) =>
  watchPending(
    { clock, logger: silentLogger, greeted, signal: stop.signal },
    { executable: join(folder, "versions", runs, "holdfast-agent"), hostBootId: hostBootId() },
  );
const current = (): Promise<string> => readlink(join(folder, "current"));
const isNoted = async (): Promise<boolean> => (await readdir(folder)).includes("update.json");

test("a version without a session is to end, and the next start runs the earlier one", async () => {
  expect(await watch("2-b", () => false)).toMatchObject({ code: "update.rolled-back" });
  expect([await current(), await isNoted()]).toEqual(["versions/1-a", false]);
});

test("a version with a session is kept", async () => {
  expect(await watch("2-b", () => true)).toBeUndefined();
  expect([await current(), await isNoted()]).toEqual(["versions/2-b", false]);
});

test("the earlier version that still runs takes an unwatched switch back, and goes on", async () => {
  expect(await watch("1-a", () => true)).toBeUndefined();
  expect([await current(), await isNoted()]).toEqual(["versions/1-a", false]);
});

test("as long as an update is at work it is left alone", async () => {
  const lock = new DataLock({ path: join(folder, "update.lock"), hostBootId: hostBootId() });
  await lock.start();
  let looks = 0;
  const { promise: seen, resolve } = Promise.withResolvers<void>();
  const watching = watch("2-b", () => {
    looks += 1;
    // More than a whole trial.
    if (looks === 130) resolve();
    return false;
  });
  await seen;
  expect([await current(), await isNoted()]).toEqual(["versions/2-b", true]);
  await lock.stop();
  expect(await watching).toMatchObject({ code: "update.rolled-back" });
});
