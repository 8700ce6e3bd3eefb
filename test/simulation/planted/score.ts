// How soon each planted bug is found, and by which invariant.
import type { RunReport } from "../simulation.ts";
import { runJob } from "../threads.ts";
import type { PlantedBug } from "./plant.ts";

export interface Score {
  readonly bug: PlantedBug;
  /** The first seed that failed; one more than allowed when none did. */
  readonly seeds: number;
  readonly invariant: string;
  readonly violation: string;
}

export async function findBug(bug: PlantedBug, from = 1): Promise<Score> {
  let found: RunReport | undefined;
  await runJob({ from, step: 1, to: bug.within + 1, bug: bug.name, untilFailure: true }, (report) => {
    if (report.violations.length > 0) found = report;
  });
  const violation = found?.violations[0] ?? "";
  const invariant = /\bI\d+(?=:)/.exec(violation)?.[0] ?? (violation === "" ? "" : "none");
  return { bug, seeds: found?.seed ?? bug.within + 1, invariant, violation };
}
