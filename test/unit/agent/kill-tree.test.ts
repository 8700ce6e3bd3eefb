// A tree is gone when its control group says so: looks at single processes can miss those that fork and end.
import { expect, test } from "vitest";
import { killTree, type Member } from "../../../agent/process-tree.ts";
import type { Clock } from "../../../shared/clock.ts";
import { attemptIdSchema } from "../../../shared/ids.ts";
import { FakeClock } from "../../fakes/clock.ts";

const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-00000000beef");
const tree = { attempt, shim: undefined, relays: () => [], isConcluding: () => false, ending: "killed" } as const;

/** Time passes by being slept through. */
function sleepless(): Clock {
  const fake = new FakeClock();
  return Object.assign(fake, { sleep: async (delayMs: number) => fake.advance(delayMs) });
}

/** Each look finds the next list; the group is empty once it was killed so many times. */
function processesOf(looks: Member[][], killsUntilEmpty: number) {
  const seen = { kills: 0, signals: [] as string[] };
  const control = {
    isAlive: () => false,
    isIdle: () => true,
    membersOf: () => looks.shift() ?? [],
    signal: (pid: number, name: string) => void seen.signals.push(`${name} ${pid}`),
    killGroup: () => void (seen.kills += 1),
    isGroupEmpty: () => seen.kills >= killsUntilEmpty,
  };
  return { control, seen };
}

test("a look that finds nobody in a group that lives ends neither the grace nor the kill", async () => {
  const { control, seen } = processesOf([[], [{ pid: 7, isScript: true }], [], [], []], 2);
  const left = await killTree(tree, { graceMs: 50, verifyMs: 1_000 }, { clock: sleepless(), processes: control });
  expect(left).toEqual([]);
  expect(seen.kills).toBe(2);
  expect(seen.signals).toContain("SIGTERM 7");
});

test("nobody is signalled where the group says that nobody is there", async () => {
  const { control, seen } = processesOf([[]], 0);
  await killTree(tree, { graceMs: 50, verifyMs: 1_000 }, { clock: sleepless(), processes: control });
  expect(seen).toEqual({ kills: 0, signals: [] });
});

test("a group that will not empty is not waited for for ever", async () => {
  const { control } = processesOf([], Number.POSITIVE_INFINITY);
  const clock = sleepless();
  await killTree(tree, { graceMs: 0, verifyMs: 1_000 }, { clock, processes: control });
  expect(clock.monotonicMs()).toBeGreaterThanOrEqual(1_000);
});
