// How often an attempt's folder is looked at, and how closely, by what the watch tells.
import { beforeEach, expect, test } from "vitest";
import { FolderFollower, type Look } from "../../../agent/folder-follower.ts";
import { FakeClock } from "../../fakes/clock.ts";

let clock: FakeClock;
let looks: { atMs: number; look: Look }[];
let size: number;
/** Whether every look finds more output. */
let output: "silent" | "pours";
let watch: "works" | "refuses";
/** Undefined while nothing is watched. */
let tell: ((name?: string) => void) | undefined;
let follower: FolderFollower;

beforeEach(() => {
  clock = new FakeClock();
  looks = [];
  size = 0;
  output = "silent";
  watch = "works";
  tell = undefined;
  follower = new FolderFollower({
    clock,
    watch: (onChange) => {
      if (watch === "refuses") throw new Error("no space left on device, inotify_add_watch");
      tell = onChange;
      return { close: () => (tell = undefined) };
    },
    onUnwatched: () => undefined,
    onLook: (look) => {
      looks.push({ atMs: clock.monotonicMs(), look });
      if (output === "pours") size += 1;
    },
    size: () => size,
  });
});

const kinds = (): Look[] => looks.map(({ look }) => look);
const gapsMs = (): number[] => looks.slice(1).map(({ atMs }, at) => atMs - (looks[at]?.atMs ?? 0));

function startQuietly(): void {
  follower.start();
  clock.advance(10_000);
  looks = [];
}

test("it looks at once; then ever more seldom, once a second in the end, and at everything", () => {
  follower.start();
  clock.advance(5_000);
  expect(gapsMs()).toEqual([50, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
  expect(kinds()).toEqual(["files", ...gapsMs().map(() => "everything")]);
});

test("where nothing can be watched, it looks four times a second", () => {
  watch = "refuses";
  follower.start();
  clock.advance(2_000);
  expect(gapsMs().slice(-4)).toEqual([250, 250, 250, 250]);
});

test("what is told of output costs a look at the output, anything else one at the files", () => {
  startQuietly();
  for (const name of ["out.0", "err.4194304", "bell", "exit", undefined]) {
    clock.advance(10);
    tell?.(name);
  }
  expect(kinds()).toEqual(["output", "output", "files", "files", "files"]);
});

test("what is told within a millisecond is one look, as close as the closest of them asks for", () => {
  startQuietly();
  tell?.("out.0");
  for (const name of ["out.0", "bell", "out.0"]) tell?.(name);
  expect(kinds()).toEqual(["output"]);
  clock.advance(1);
  expect(kinds()).toEqual(["output", "files"]);
});

test("a watch that tells too much is given up for polling, until there is nothing new", () => {
  startQuietly();
  output = "pours";
  for (let event = 0; event < 300; event += 1) tell?.("out.0");
  expect(tell).toBeUndefined();
  looks = [];
  clock.advance(1_000);
  expect(tell).toBeUndefined();
  expect(new Set(gapsMs().slice(1))).toEqual(new Set([50]));
  output = "silent";
  clock.advance(100);
  expect(tell).toBeDefined();
});

test("many events over a long time are no reason to give the watch up", () => {
  startQuietly();
  for (let event = 0; event < 600; event += 1) {
    clock.advance(2);
    tell?.("out.0");
  }
  expect(tell).toBeDefined();
});

test("hastened, it looks as soon as at the start, however seldom it was", () => {
  startQuietly();
  follower.hasten();
  const fromMs = clock.monotonicMs();
  clock.advance(400);
  expect(looks.map(({ atMs }) => atMs - fromMs)).toEqual([50, 150, 350]);
});

test("stopped, it looks at nothing and leaves nothing running", () => {
  startQuietly();
  const told = tell;
  told?.("out.0");
  told?.("out.0");
  looks = [];
  follower.stop();
  told?.("bell");
  clock.advance(10_000);
  expect(looks).toEqual([]);
  expect(clock.timers).toBe(0);
});
