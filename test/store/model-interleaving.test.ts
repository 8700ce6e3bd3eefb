// Several nodes write to the same rows at the same moment. Whatever comes of it must be what some order of the same
// transactions, one after the other, makes of the model. The liberties the statements take on purpose are granted: a claim
// or a sweep leaves rows that another transaction holds; and what a greeting with another journal, or the removal of an
// agent, could not see yet is ended by the next sweep.
// HOLDFAST_HISTORIES=n plays more; HOLDFAST_SEED and HOLDFAST_PATH play a reported one again.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ClockedLab } from "./model/clocked-lab.ts";
import { Crossing } from "./model/crossing.ts";
import { anyStep, histories, weights, type Step } from "./model/play.ts";

const lab = new ClockedLab(3);
beforeAll(() => lab.start());
afterAll(() => lab.stop());

/** A node joins by itself, alone; what is changed by hand in these histories is changed between the crossings. */
const crossed = [
  "submit",
  "claim",
  "progress",
  "noteProgress",
  "refuse",
  "release",
  "append",
  "finish",
  "resume",
  "greet",
  "readOpen",
  "lose",
  "presence",
  "settle",
  "cancel",
  "abandon",
  "remove",
  "sweep",
  "feed",
  "known",
  "cancels",
  "distrusted",
] as const satisfies readonly Step["verb"][];

const asked = histories({ file: "test/store/model-interleaving.test.ts", count: 30 });
const turns = fc.array(
  fc.record({
    before: fc.array(anyStep(Object.keys(weights) as Step["verb"][]), { maxLength: 4, size: "max" }),
    atOnce: fc.array(anyStep(crossed), { minLength: 2, maxLength: 5, size: "max" }),
  }),
  { minLength: 1, maxLength: 8, size: "max" },
);

describe("transactions at once on four connections", () => {
  it(`come to what some order of them makes of the model, ${asked.named}`, { timeout: 36_000_000 }, async () => {
    const found = await asked.check(turns, async (history) => {
      const crossing = new Crossing(lab);
      await crossing.begin();
      for (const { before, atOnce } of history) {
        for (const step of before) await crossing.play(step);
        await crossing.cross(atOnce);
      }
    });
    expect(found).toBe("");
  });
});
