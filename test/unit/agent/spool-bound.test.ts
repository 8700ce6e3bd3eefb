// When a spool is punched, and that a failure is met with patience instead of processes.
import { expect, test } from "vitest";
import { SpoolBound } from "../../../agent/spool-bound.ts";
import { silentLogger } from "../../../shared/logger.ts";
import { FakeClock } from "../../fakes/clock.ts";

function bound(outcome: () => Promise<void> | undefined) {
  const clock = new FakeClock();
  const seen = { punches: 0, warnings: 0 };
  const logger = { ...silentLogger, warn: () => (seen.warnings += 1) };
  const spool = {
    refresh: () => 0,
    punch: () => {
      seen.punches += 1;
      return outcome();
    },
  };
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  };
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 10) {
      clock.advance(10);
      await settle();
    }
  };
  return { clock, seen, pass, settle, it: new SpoolBound({ clock, spool, logger }) };
}

test("a flood is punched again 10 ms after each punch", async () => {
  const { it, seen, pass, settle } = bound(() => Promise.resolve());
  it.look();
  it.look();
  await settle();
  expect(seen.punches).toBe(1);
  await pass(100);
  expect(seen.punches).toBe(11);
});

test("a file system without holes is asked after 1, 2, 4 s and so on up to a minute, and is said once", async () => {
  const { it, seen, pass, settle } = bound(() => Promise.reject(new Error("fallocate ended with 1")));
  it.look();
  await settle();
  for (let looks = 0; looks < 99; looks += 1) {
    await pass(10);
    it.look();
  }
  expect(seen).toEqual({ punches: 1, warnings: 1 });
  await pass(6_010);
  expect(seen).toEqual({ punches: 4, warnings: 1 });
  await pass(600_000);
  expect(seen.punches).toBeLessThan(20);
});

test("stopped, it leaves no timer and punches no more", async () => {
  const { it, clock, seen, settle } = bound(() => Promise.resolve());
  it.look();
  await settle();
  it.stop();
  it.look();
  expect(clock.timers).toBe(0);
  expect(seen.punches).toBe(1);
});
