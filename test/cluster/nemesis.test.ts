// The nemesis for a minute: 3 nodes, 6 agents in networks of their own, a PostgreSQL with a synchronous standby, and faults of
// every kind that overlap; then all is healed and the whole history judged. Another seed each time, printed; HOLDFAST_SEED sets it.
// Needs root, `ip`, `nft` and `tc`. On demand, HOLDFAST_NEMESIS=1, until its judge tells output that a full disk cost, and
// of which the result says so, from output that was lost without a word.
import { randomInt } from "node:crypto";
import { expect, it } from "vitest";
import { SeparateNetwork } from "../harness/separate-network.ts";
import { asMarkdown } from "../nemesis/report.ts";
import { runNemesis } from "../nemesis/run.ts";

const seed = Number(process.env["HOLDFAST_SEED"] ?? randomInt(2 ** 31));
const whyNot = SeparateNetwork.whyNot();
const isWanted = process.env["HOLDFAST_NEMESIS"] === "1";
const isSkipped = whyNot !== undefined || !isWanted;
if (isWanted && isSkipped)
  process.stderr.write(`\nSKIPPED, no nemesis: ${whyNot} (root? sh scripts/install-test-tools.sh)\n`);

it.skipIf(isSkipped)(
  `a minute of faults of every kind breaks no promise (seed ${seed})`,
  { timeout: 900_000 },
  async ({ signal }) => {
    const said: string[] = [];
    const report = await runNemesis(
      { seed, lastsMs: 60_000, nodes: 3, agents: 6, perSecond: 5, say: (line) => said.push(line) },
      signal,
    );
    const text = asMarkdown(report);
    process.stdout.write(`\n${text}`);
    expect(report.violations, `${said.join("\n")}\n${text}`).toEqual([]);
    // Nothing would be wrong in a run without work or without harm.
    expect(report.facts.settledMs).not.toBeNull();
    expect(report.starts).toBeGreaterThan(100);
    expect(report.facts.faults.length).toBeGreaterThan(8);
  },
);
