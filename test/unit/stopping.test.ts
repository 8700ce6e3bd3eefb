import { beforeEach, expect, test } from "vitest";
import { stopInSteps, type StopStep } from "../../server/stopping.ts";
import type { Logger } from "../../shared/logger.ts";
import { silentLogger } from "../../shared/logger.ts";
import { FakeClock } from "../fakes/clock.ts";

let clock: FakeClock;
let lines: Record<string, unknown>[];
let logger: Logger;
let done: string[];

beforeEach(() => {
  clock = new FakeClock();
  [lines, done] = [[], []];
  const keep = (fields: object): void => void lines.push({ ...fields });
  logger = { ...silentLogger, info: keep, warn: keep };
});

const step = (name: string): StopStep => ({ name, act: () => void done.push(name) });
const stuck: StopStep = { name: "stuck", act: () => new Promise<void>(() => undefined) };

test("steps are taken one after the other, and nothing is left", async () => {
  expect(await stopInSteps({ clock, logger }, [step("one"), step("two")], 1_000)).toEqual([]);
  expect(done).toEqual(["one", "two"]);
  expect(clock.timers).toBe(0);
});

test("a step that does not end is named with those behind it, and not waited for", async () => {
  const stopping = stopInSteps({ clock, logger }, [step("one"), stuck, step("three")], 1_000);
  await Promise.resolve();
  clock.advance(999);
  clock.advance(1);
  expect(await stopping).toEqual(["stuck", "three"]);
  expect(done).toEqual(["one"]);
  expect(lines.map(({ left }) => left)).toContainEqual(["stuck", "three"]);
});

test("a step that fails keeps none behind it from being taken; the failure is thrown in the end", async () => {
  const failing: StopStep = { name: "failing", act: () => Promise.reject(new Error("no")) };
  await expect(stopInSteps({ clock, logger }, [failing, step("two")], 1_000)).rejects.toThrow("no");
  expect(done).toEqual(["two"]);
  expect(clock.timers).toBe(0);
});

test("a step that takes long is told with its time", async () => {
  const slow: StopStep = { name: "slow", act: () => clock.advance(3_000) };
  await stopInSteps({ clock, logger }, [slow, step("quick")], 10_000);
  expect(lines.map(({ step: name, tookMs }) => ({ name, tookMs }))).toEqual([{ name: "slow", tookMs: 3_000 }]);
});
