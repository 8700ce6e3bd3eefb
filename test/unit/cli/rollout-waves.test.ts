// Waves of a rollout: whatever comes of each agent, and whenever somebody asks to stop.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  beginWave,
  endWave,
  planRollout,
  stopRollout,
  type Rollout,
  type RolloutPlan,
  type WaveSize,
} from "../../../cli/rollout/waves.ts";

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `web-${index}`);
const planOf = (count: number, wave: WaveSize, failures = 0): RolloutPlan => ({
  agents: names(count),
  wave,
  failures,
  waveAtMost: 1_000,
});

/** The sizes of the waves, each agent updated. */
function sizes(plan: RolloutPlan): number[] {
  const seen: number[] = [];
  for (let rollout = planRollout(plan); rollout.at !== "ended";) {
    rollout = beginWave(rollout);
    if (rollout.at !== "wave") throw new Error(`expected a wave, saw ${rollout.at}`);
    seen.push(rollout.running.length);
    rollout = endWave(rollout, { failed: 0, updated: rollout.running.length }, "go-on");
  }
  return seen;
}

test.each([
  ["a tenth, rounded down", planOf(25, { kind: "share", percent: 10 }), [1, ...Array<number>(12).fill(2)]],
  ["at least one", planOf(3, { kind: "share", percent: 10 }), [1, 1, 1]],
  ["a number, the rest in the last", planOf(6, { kind: "count", count: 3 }), [1, 3, 2]],
  ["all at once", planOf(5, { kind: "share", percent: 100 }), [1, 4]],
  ["no more than one request takes", { ...planOf(6, { kind: "count", count: 9 }), waveAtMost: 2 }, [1, 2, 2, 1]],
  ["nothing", planOf(0, { kind: "count", count: 3 }), []],
])("after one agent, waves are %s", (_what, plan, expected) => {
  expect(sizes(plan)).toEqual(expected);
});

test("waves stay at one agent until one was updated: who refuses proves nothing", () => {
  let rollout = planRollout(planOf(10, { kind: "count", count: 5 }));
  for (const updated of [0, 0, 1]) {
    rollout = beginWave(rollout);
    expect(rollout).toMatchObject({ at: "wave", running: [expect.any(String)] });
    rollout = endWave(rollout, { failed: 0, updated }, "go-on");
  }
  expect(beginWave(rollout)).toMatchObject({ running: { length: 5 } });
});

interface Course {
  readonly plan: RolloutPlan;
  /** Of each agent in its turn. */
  readonly fates: readonly ("updated" | "failed" | "neither")[];
  /** Somebody asks to stop during this wave. */
  readonly stopIn: number;
}

const courses: fc.Arbitrary<Course> = fc
  .record({
    count: fc.integer({ min: 0, max: 60 }),
    wave: fc.oneof(
      fc.record({ kind: fc.constant("count" as const), count: fc.integer({ min: 1, max: 20 }) }),
      fc.record({ kind: fc.constant("share" as const), percent: fc.integer({ min: 1, max: 100 }) }),
    ),
    failures: fc.integer({ min: 0, max: 5 }),
    waveAtMost: fc.integer({ min: 1, max: 20 }),
    stopIn: fc.integer({ min: 1, max: 40 }),
    fates: fc.array(
      fc.oneof(
        { weight: 6, arbitrary: fc.constant("updated" as const) },
        { weight: 1, arbitrary: fc.constantFrom("failed" as const, "neither" as const) },
      ),
      { minLength: 60, maxLength: 60 },
    ),
  })
  .map(({ count, wave, failures, waveAtMost, fates, stopIn }) => ({
    plan: { agents: names(count), wave, failures, waveAtMost },
    fates,
    stopIn,
  }));

test("no agent twice, no wave too large, none after the limit or the wish to stop, and all are accounted for", () => {
  fc.assert(
    fc.property(courses, ({ plan, fates, stopIn }) => {
      const { agents, wave, failures, waveAtMost } = plan;
      const most = Math.max(1, wave.kind === "count" ? wave.count : (agents.length * wave.percent) / 100);
      const begun: string[] = [];
      let [failed, updated, waves, asked] = [0, 0, 0, false];
      let rollout: Rollout = planRollout(plan);
      while (rollout.at !== "ended") {
        expect(failed).toBeLessThanOrEqual(failures);
        expect(asked).toBe(false);
        rollout = beginWave(rollout);
        if (rollout.at !== "wave") throw new Error(`expected a wave, saw ${rollout.at}`);
        // Two at once there are never.
        expect(beginWave(rollout)).toBe(rollout);
        const { running } = rollout;
        waves += 1;
        expect(running.length).toBeGreaterThan(0);
        expect(running.length).toBeLessThanOrEqual(updated === 0 ? 1 : Math.min(most, waveAtMost));
        const own = fates.slice(begun.length, begun.length + running.length);
        begun.push(...running);
        const result = {
          failed: own.filter((fate) => fate === "failed").length,
          updated: own.filter((fate) => fate === "updated").length,
        };
        failed += result.failed;
        updated += result.updated;
        asked = waves >= stopIn;
        rollout = endWave(rollout, result, asked ? "stop" : "go-on");
      }
      expect([...begun, ...rollout.untouched]).toEqual(agents);
      const why = failed > failures ? "failures" : rollout.untouched.length > 0 ? "interrupted" : "done";
      expect(rollout.why).toBe(why);
    }),
  );
});

test("asked to stop between two waves, it ends and names who is left", () => {
  const rollout = endWave(
    beginWave(planRollout(planOf(3, { kind: "count", count: 2 }))),
    { failed: 0, updated: 1 },
    "go-on",
  );
  expect(stopRollout(rollout)).toEqual({ at: "ended", why: "interrupted", untouched: ["web-1", "web-2"] });
});
