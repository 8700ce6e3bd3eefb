// The schedule of faults: reproducible, healed in time, and never two hands on one subject.
import { describe, expect, it } from "vitest";
import { faultKinds, subjectsOf } from "../../nemesis/fault.ts";
import { planFaults, type PlanOptions } from "../../nemesis/plan.ts";

const options: Omit<PlanOptions, "seed"> = {
  lastsMs: 300_000,
  nodes: ["node-01", "node-02", "node-03"],
  agents: Array.from({ length: 20 }, (_, index) => `agent-${index}`),
  smallDisks: ["agent-0", "agent-1"],
};
const seeds = Array.from({ length: 50 }, (_, index) => index + 1);

describe("a plan of faults", () => {
  it("is the same for the same seed, and another for another", () => {
    expect(planFaults({ ...options, seed: 7 })).toEqual(planFaults({ ...options, seed: 7 }));
    expect(planFaults({ ...options, seed: 7 })).not.toEqual(planFaults({ ...options, seed: 8 }));
  });

  it.each(seeds)("heals every fault within the time (seed %i)", (seed) => {
    for (const { atMs, forMs } of planFaults({ ...options, seed })) {
      expect(forMs).toBeGreaterThan(0);
      expect(atMs + forMs).toBeLessThanOrEqual(options.lastsMs);
    }
  });

  it.each(seeds)("never has two faults on one subject at once, and has faults at once (seed %i)", (seed) => {
    const plan = planFaults({ ...options, seed });
    const together = plan.flatMap((one, at) =>
      plan.slice(at + 1).flatMap((other) => (other.atMs < one.atMs + one.forMs ? [[one, other] as const] : [])),
    );
    expect(together.length).toBeGreaterThan(plan.length / 2);
    for (const [one, other] of together)
      expect(subjectsOf(one.fault).filter((subject) => subjectsOf(other.fault).includes(subject))).toEqual([]);
  });

  it.each(seeds)("brings every kind within five minutes, and at least one a 7 s (seed %i)", (seed) => {
    const plan = planFaults({ ...options, seed });
    expect(new Set(plan.map(({ fault }) => fault.kind))).toEqual(new Set(faultKinds));
    expect(plan.length).toBeGreaterThan(options.lastsMs / 7_000);
  });

  it("fills no disk where none is small", () => {
    const kinds = planFaults({ ...options, smallDisks: [], seed: 3 }).map(({ fault }) => fault.kind);
    expect(kinds).not.toContain("fill-disk");
    expect(kinds.length).toBeGreaterThan(40);
  });
});
