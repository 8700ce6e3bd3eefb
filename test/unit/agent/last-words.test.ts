import { beforeEach, expect, test } from "vitest";
import { LastWords } from "../../../agent/last-words.ts";
import type { Stream } from "../../../shared/task.ts";
import { FakeClock } from "../../fakes/clock.ts";

const shim = { pid: 10, startTicks: "1", uptimeMs: 0 };
let clock: FakeClock;
let sent: number;
let lost: Stream[];
let isOver: boolean;
let states: Record<number, "idle" | "busy" | "dead">;
let sizes: Record<Stream, number>;
let words: LastWords;

beforeEach(() => {
  clock = new FakeClock();
  [sent, lost, isOver] = [0, [], true];
  states = { 11: "idle", 12: "idle" };
  sizes = { out: 0, err: 0 };
  words = new LastWords(
    {
      clock,
      folder: {
        isConcluding: () => isOver,
        relays: () => [11, 12].map((pid) => ({ pid, startTicks: "1" })),
        markLost: (stream) => void lost.push(stream),
      },
      processes: {
        isAlive: ({ pid }) => states[pid] !== "dead",
        isIdle: ({ pid }) => states[pid] === "idle",
        signal: (pid, name) => void (pid === shim.pid && name === "SIGALRM" && (sent += 1)),
      },
      sizeOf: (stream) => sizes[stream],
    },
    { lingerMs: 250, storeMs: 30_000 },
  );
});

/** Looks every 250 ms. */
function lookFor(ms: number): void {
  for (let passed = 0; passed <= ms; passed += 250) {
    words.look(shim);
    clock.advance(250);
  }
}

test("a script that runs is not hurried", () => {
  isOver = false;
  lookFor(60_000);
  expect(sent).toBe(0);
});

test("once it is over and all is stored, the alarm comes after a quarter of a second, and again", () => {
  words.look(shim);
  clock.advance(249);
  words.look(shim);
  expect(sent).toBe(0);
  clock.advance(1);
  words.look(shim);
  words.look(shim);
  expect([sent, lost]).toEqual([2, []]);
});

test("a relay that still stores keeps the alarm back, and what it has not stored by then is marked", () => {
  states[12] = "busy";
  lookFor(29_000);
  expect(sent).toBe(0);
  lookFor(1_500);
  expect(sent).toBeGreaterThan(0);
  expect(new Set(lost)).toEqual(new Set(["err"]));
});

test("it is not kept back by a relay that has ended, nor by one that has stored more than a pipe holds since", () => {
  states = { 11: "dead", 12: "busy" };
  sizes.err = 5;
  words.look(shim);
  sizes.err += 1_048_575;
  clock.advance(250);
  words.look(shim);
  expect(sent).toBe(0);
  sizes.err += 1;
  words.look(shim);
  expect([sent, lost]).toEqual([1, []]);
});
