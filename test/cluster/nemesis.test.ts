// The nemesis for a minute: 3 nodes, 6 agents in networks of their own, a PostgreSQL with a synchronous standby, and faults
// that overlap; then all is healed and the whole history judged. The seed draws plan and load, and is always the same here:
// HOLDFAST_SEED sets another, HOLDFAST_NEMESIS the minutes, and `npm run nemesis` draws one each time. Of a run that finds a
// violation the evidence stays, and its folder is printed. Judges safety and that everything ends, never speed. Needs root,
// `ip`, `nft` and `tc`.
import { expect, it } from "vitest";
import { SeparateNetwork } from "../harness/separate-network.ts";
import { asMarkdown } from "../nemesis/report.ts";
import { runNemesis } from "../nemesis/run.ts";

const seed = Number(process.env["HOLDFAST_SEED"] ?? 20_261_126);
const lastsMs = Number(process.env["HOLDFAST_NEMESIS"] ?? "1") * 60_000;
/** Of starting, healing and settling, on a machine with other work; a minute when it has none. */
const restMs = 1_200_000;
const whyNot = await SeparateNetwork.whyNot();
const isSkipped = whyNot !== undefined && process.env["CI"] !== "true";
if (isSkipped) process.stderr.write(`\nSKIPPED, no nemesis: ${whyNot} (root? sh scripts/install-test-tools.sh)\n`);

it.skipIf(isSkipped)(
  `a minute of faults that overlap breaks no promise (seed ${seed})`,
  { timeout: lastsMs + restMs },
  async ({ signal }) => {
    const said: string[] = [];
    const startedMs = performance.now();
    const say = (line: string): void =>
      void said.push(`[${((performance.now() - startedMs) / 1_000).toFixed(1).padStart(6)}] ${line}`);
    const report = await runNemesis({ seed, lastsMs, nodes: 3, agents: 6, perSecond: 10, say }, signal);
    const text = asMarkdown(report);
    process.stdout.write(`\n${text}`);
    expect(report.violations, `${said.join("\n")}\n${text}`).toEqual([]);
    // Nothing would be wrong in a run without work or without harm. Faults whose time a slow machine let pass are left out.
    expect(report.facts.settledMs).not.toBeNull();
    expect(report.starts).toBeGreaterThan(10);
    expect(report.facts.faults.length).toBeGreaterThan(4);
  },
);
