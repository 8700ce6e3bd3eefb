// Every planted bug has to be found within its number of seeds: the measure of what the simulator is worth.
import { describe, expect, test } from "vitest";
import { plantedBugs } from "./bugs.ts";
import { findBug } from "./score.ts";

// Each runs on a thread of its own.
describe.concurrent("the simulator finds", () => {
  test.each(plantedBugs)("$name", async (bug) => {
    const score = await findBug(bug, bug.from);
    expect(score.seeds, `${bug.about}: not found in ${bug.within} seeds`).toBeLessThanOrEqual(bug.within);
    expect(score.invariant).toMatch(/^I\d+$/);
  });
});
