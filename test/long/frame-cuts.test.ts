// The exchange of test/simulation/cuts, reset after every single byte of either direction: some 6,500 runs, which
// took 84 s on two cores that had other work and 449 s on two that had much.
import { expect, test } from "vitest";
import { describeCuts, runCuts } from "../simulation/cuts/run-cuts.ts";

const seed = Number(process.env["HOLDFAST_SEED"] ?? Date.now() % 1_000_000);

test(
  `an exchange reset after any byte of its frames ends as if nothing had happened (seed ${seed})`,
  { timeout: 1_200_000 },
  async () => {
    const report = await runCuts({ seed, act: "reset", at: { step: 1 } });
    process.stdout.write(`frame cuts, ${describeCuts(report, "resets at every byte")}, seed ${seed}\n`);
    expect(report.wrong).toEqual([]);
    expect(report.made).toBe(report.asked);
    expect(report.asked).toBeGreaterThan(6_000);
  },
);
