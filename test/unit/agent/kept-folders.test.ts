// What is kept of failed attempts, for how long, and what goes first. On a real folder, with a clock that a test moves.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KeptFolders, type KeptFoldersOptions } from "../../../agent/kept-folders.ts";
import { Background } from "../../../shared/background.ts";
import { attemptIdSchema, type AttemptId } from "../../../shared/ids.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { FakeClock } from "../../fakes/clock.ts";

const hourMs = 3_600_000;
let root: string;
let clock: FakeClock;
let background: Background;
let freeBytes: number;
let open: KeptFolders[];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "holdfast-kept-"));
  clock = new FakeClock();
  background = new Background({ logger: silentLogger });
  freeBytes = Number.MAX_SAFE_INTEGER;
  open = [];
});
afterEach(async () => {
  for (const kept of open) kept.stop();
  await background.settle();
  rmSync(root, { recursive: true });
});

async function started(change: Partial<KeptFoldersOptions> = {}): Promise<KeptFolders> {
  const options = { path: join(root, "kept"), keptMs: hourMs, freeBytesAtLeast: 100, ...change };
  const kept = new KeptFolders({ clock, background, logger: silentLogger, freeBytes: () => freeBytes }, options);
  open.push(kept);
  kept.start();
  await background.settle();
  return kept;
}

const attempt = (no: number): AttemptId => attemptIdSchema.parse(`00000000-0000-7000-8000-00000000000${no}`);
const names = (): string[] => (existsSync(join(root, "kept")) ? readdirSync(join(root, "kept")).toSorted() : []);

/** A work folder with one file. */
function work(no: number, bytes = 1): string {
  const path = join(root, `work-${no}`);
  mkdirSync(path);
  writeFileSync(join(path, "file"), "x".repeat(bytes));
  return path;
}

async function advance(ms: number): Promise<void> {
  clock.advance(ms);
  await background.settle();
}

test("a work folder is moved with all that is in it, and goes when its time is over", async () => {
  const kept = await started();
  await kept.keep(attempt(1), work(1));
  expect(existsSync(join(root, "work-1"))).toBe(false);
  expect(readdirSync(join(root, "kept", attempt(1), "work"))).toEqual(["file"]);
  await advance(hourMs - 60_000);
  expect(names()).toEqual([attempt(1)]);
  await advance(60_000);
  expect(names()).toEqual([]);
});

test("one with nothing in it, one that is not there, and any when none are to be kept leave nothing", async () => {
  const kept = await started();
  mkdirSync(join(root, "empty"));
  await kept.keep(attempt(1), join(root, "empty"));
  await kept.keep(attempt(2), join(root, "none"));
  await (await started({ keptMs: 0 })).keep(attempt(3), work(3));
  expect(names()).toEqual([]);
});

test("the oldest go when there are too many or too large ones, and one that is too large by itself stays out", async () => {
  const kept = await started({ foldersAtMost: 2, bytesAtMost: 100_000 });
  for (const no of [1, 2, 3]) {
    await kept.keep(attempt(no), work(no));
    await advance(1);
  }
  expect(names()).toEqual([attempt(2), attempt(3)]);
  await kept.keep(attempt(4), work(4, 90_000));
  expect(names()).toEqual([attempt(3), attempt(4)]);
  await kept.keep(attempt(5), work(5, 90_000));
  expect(names()).toEqual([attempt(5)]);
  await kept.keep(attempt(6), work(6, 200_000));
  expect(names()).toEqual([attempt(5)]);
});

test("they go before work has to be refused for want of disk", async () => {
  const kept = await started();
  await kept.keep(attempt(1), work(1));
  freeBytes = 99;
  await advance(60_000);
  expect(names()).toEqual([]);
});

test("a successor keeps them for the rest of their time, and removes all when none are to be kept", async () => {
  const first = await started();
  await first.keep(attempt(1), work(1));
  await advance(hourMs / 2);
  await first.keep(attempt(2), work(2));
  first.stop();
  await started();
  expect(names()).toEqual([attempt(1), attempt(2)]);
  await advance(hourMs / 2);
  expect(names()).toEqual([attempt(2)]);
  await started({ keptMs: 0 });
  expect(names()).toEqual([]);
});

test("links in them are not followed", async () => {
  const outside = join(root, "outside");
  mkdirSync(outside);
  writeFileSync(join(outside, "file"), "x".repeat(500_000));
  const kept = await started({ bytesAtMost: 100_000 });
  const path = work(1);
  symlinkSync(outside, join(path, "folder"));
  symlinkSync(join(outside, "file"), join(path, "link"));
  await kept.keep(attempt(1), path);
  expect(names()).toEqual([attempt(1)]);
  await advance(hourMs);
  expect([names(), readdirSync(outside)]).toEqual([[], ["file"]]);
});
