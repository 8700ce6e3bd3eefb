// When bytes were seen, and how fast they may go: marks and buckets by hand.
import { expect, it } from "vitest";
import { LogTimes } from "../../../agent/log-times.ts";
import { seenAt } from "../../../shared/wire/log.ts";
import { Pace } from "../../../agent/pace.ts";

it("a byte has the time at which its stream first reached beyond it", () => {
  const times = new LogTimes();
  expect(times.at(0)).toBeUndefined();
  times.note(10, 1_000);
  times.note(10, 5_000);
  times.note(25, 6_000);
  expect([0, 9, 10, 24].map((offset) => times.at(offset))).toEqual([1_000, 1_000, 6_000, 6_000]);
  expect(times.at(25)).toBeUndefined();
});

it("what comes within 100 ms of a mark belongs to it, also when the clock is set back", () => {
  const times = new LogTimes();
  times.note(1, 1_000);
  times.note(2, 1_099);
  times.note(3, 1_100);
  times.note(4, 500);
  expect([0, 1, 2, 3].map((offset) => times.at(offset))).toEqual([1_000, 1_000, 1_100, 500]);
});

it("keeps a bounded number of marks, gets coarser, and never says a time before the byte was there", () => {
  const times = new LogTimes({ most: 8 });
  for (let second = 1; second <= 1_000; second += 1) {
    times.note(second, second * 1_000);
    expect(times.at(second - 1)).toBe(second * 1_000);
  }
  for (let offset = 0; offset < 1_000; offset += 1)
    expect(times.at(offset)).toBeGreaterThanOrEqual((offset + 1) * 1_000);
  const distinct = new Set(Array.from({ length: 1_000 }, (_, offset) => times.at(offset)));
  expect(distinct.size).toBeLessThanOrEqual(8);
  expect(distinct.size).toBeGreaterThan(3);
  expect(times.at(999)).toBe(1_000_000);
});

it("a pace lets a second's worth go at once and then what time brings, and saves up no more than that", () => {
  const pace = new Pace({ bytesPerSecond: 1_000, nowMs: 0 });
  expect(pace.allowance(0)).toBe(1_000);
  pace.take(1_000);
  expect(pace.allowance(0)).toBe(0);
  expect(pace.waitMs(100)).toBe(100);
  expect(pace.allowance(250)).toBe(250);
  pace.take(250);
  // Asked for more than a bucket holds, it waits until that is full.
  expect(pace.waitMs(4_096)).toBe(1_000);
  expect(pace.allowance(60_000)).toBe(1_000);
});

it("a clock that is far off costs the time, not the frame", () => {
  expect([1_795_000_000_000.4, 0, 4_102_444_800_000].map(seenAt)).toEqual([1_795_000_000_000, 0, 4_102_444_800_000]);
  expect([-1, 4_102_444_800_001, Number.NaN, undefined].map(seenAt)).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});
