// The decision of an update, over looks at an agent that comes up, does not, dies again, or stays the old one.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  steadyMs,
  stepUpdate,
  type Seen,
  type UpdateEffect,
  type UpdateEvent,
  type UpdatePlan,
  type UpdateState,
} from "../../../../agent/update/step.ts";

const plan: UpdatePlan = { from: "1-a", to: "2-b", oldPid: 10, greetMs: 60_000 };
const agent = (change: Partial<Extract<Seen, { kind: "agent" }>> = {}): Seen => {
  return { kind: "agent", pid: 20, runs: "2-b", greeted: true, ...change };
};
const nothing: Seen = { kind: "nothing", why: "no socket" };
const at = (nowMs: number, seen: Seen): UpdateEvent => ({ kind: "seen", seen, nowMs });

function run(...events: UpdateEvent[]): { readonly state: UpdateState; readonly effects: UpdateEffect[] } {
  const effects: UpdateEffect[] = [];
  let state: UpdateState = { at: "start" };
  for (const event of [{ kind: "begin", plan, nowMs: 0 } as const, ...events]) {
    const step = stepUpdate(state, event);
    state = step.state;
    effects.push(...step.effects);
  }
  return { state, effects };
}

const switched: UpdateEffect[] = [
  { kind: "note", from: "1-a", to: "2-b" },
  { kind: "point", version: "2-b" },
  { kind: "restart" },
];
const back: UpdateEffect[] = [{ kind: "point", version: "1-a" }, { kind: "restart" }];
const forgotten: UpdateEffect[] = [{ kind: "forget-note" }];

describe("the new version", () => {
  test("is noted before `current` points at it, and that before the restart", () => {
    expect(run().effects).toEqual(switched);
  });

  test("stays once its process has had a session for a while", () => {
    const { state, effects } = run(at(1_000, nothing), at(2_000, agent()), at(2_000 + steadyMs, agent()));
    expect(state).toEqual({ at: "ended", outcome: { kind: "updated", version: "2-b", pid: 20 } });
    expect(effects).toEqual([...switched, ...forgotten]);
  });

  test("is not good because it greeted once and died", () => {
    const { state } = run(
      at(2_000, agent()),
      at(3_000, nothing),
      at(4_000, agent({ pid: 21 })),
      at(6_000, agent({ pid: 21 })),
    );
    expect(state.at).toBe("trying");
  });

  test("has its whole trial when it greeted in the last moment", () => {
    const late = [at(59_999, agent()), at(60_000, agent())];
    expect(run(...late).state.at).toBe("trying");
    expect(run(...late, at(59_999 + steadyMs, agent())).state).toMatchObject({ outcome: { kind: "updated" } });
    expect(run(...late, at(61_000, nothing)).state.at).toBe("returning");
  });

  test.each<[string, Seen, string]>([
    ["does not start", nothing, "no socket"],
    ["starts and never greets", agent({ greeted: false }), "process 20 runs, and has no session with a node"],
    ["was never started", agent({ pid: 10, runs: "1-a" }), "process 10 still runs 1-a"],
    [
      "was never started, as far as can be told",
      agent({ pid: 10, runs: undefined }),
      "process 10 still runs as before",
    ],
  ])("that %s is left after 60 s, not before", (_what, seen, why) => {
    expect(run(at(59_999, seen)).state.at).toBe("trying");
    const { state, effects } = run(at(60_000, seen));
    expect(state).toMatchObject({ at: "returning", why });
    expect(effects).toEqual([...switched, ...back]);
  });

  test("is left at once when nothing restarts it", () => {
    const { state, effects } = run({ kind: "restart-failed", why: "exit 4", nowMs: 5 });
    expect(state).toMatchObject({ at: "returning", why: "exit 4", endMs: 60_005 });
    expect(effects).toEqual([...switched, ...back]);
  });
});

describe("the earlier version", () => {
  test("is back when its own process has a session", () => {
    const events = [at(60_000, nothing), at(61_000, agent({ pid: 30 })), at(62_000, agent({ pid: 31, runs: "1-a" }))];
    expect(run(...events).state.at).toBe("returning");
    const { state, effects } = run(...events, at(62_000 + steadyMs, agent({ pid: 31, runs: "1-a" })));
    expect(state).toEqual({ at: "ended", outcome: { kind: "rolled-back", version: "1-a", why: "no socket" } });
    expect(effects).toEqual([...switched, ...back, ...forgotten]);
  });

  test("is restarted once more when the restart of it failed, and no third time", () => {
    const failed = { kind: "restart-failed", why: "exit 1", nowMs: 60_001 } as const;
    const { state, effects } = run(at(60_000, nothing), failed, failed);
    expect(effects).toEqual([...switched, ...back, { kind: "restart" }]);
    expect(state).toMatchObject({ at: "returning", endMs: 120_000, lacks: "exit 1" });
    const own = agent({ pid: 31, runs: "1-a" });
    expect(run(at(60_000, nothing), failed, at(61_000, own), at(61_000 + steadyMs, own)).state).toMatchObject({
      outcome: { kind: "rolled-back" },
    });
  });

  test("that does not greet either is reported, and left in place", () => {
    const { state } = run(at(60_000, nothing), at(120_000, nothing));
    expect(state).toMatchObject({ outcome: { kind: "stranded", version: "1-a" } });
  });
});

test("whatever is seen, it ends, with `current` where the outcome says", () => {
  const seen = fc.oneof(
    fc.constant(nothing),
    fc.record({
      kind: fc.constant("agent" as const),
      pid: fc.constantFrom(10, 20, 30),
      runs: fc.constantFrom("1-a", "2-b", undefined),
      greeted: fc.boolean(),
    }),
  );
  fc.assert(
    fc.property(fc.array(seen, { minLength: 150, maxLength: 150 }), (looks) => {
      const { state, effects } = run(...looks.map((look, index) => at((index + 1) * 1_000, look)));
      const pointed = effects.filter((effect) => effect.kind === "point").at(-1)?.version;
      // Two trials of 60 s, and a last session's few seconds each.
      expect(state.at).toBe("ended");
      expect(state.at === "ended" && state.outcome.version).toBe(pointed);
    }),
  );
});
