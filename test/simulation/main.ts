// The simulator's command line: `npm run simulate -- --seeds 20000 [--from N]`, or one seed with `--seed N [--trace]`.
import { parseArgs } from "node:util";
import { runSeed, type RunReport } from "./simulation.ts";
import { runSeeds } from "./threads.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "2000" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    trace: { type: "boolean", default: false },
  },
});

const say = (line: string): void => void process.stdout.write(`${line}\n`);

export function describeFailure(report: RunReport): string {
  return [
    `seed ${report.seed} fails. Again: npm run simulate -- --seed ${report.seed} --trace`,
    ...report.violations.map((violation) => `  ${violation}`),
    `  options: ${JSON.stringify(report.options)}`,
    ...report.lastLines.map((line) => `    ${line}`),
  ].join("\n");
}

async function one(seed: number): Promise<number> {
  const report = await runSeed(seed, values.trace ? { onLine: say } : {});
  if (report.violations.length > 0) say(describeFailure(report));
  say(`seed ${seed}: ${report.events} events, ${report.simulatedMs} ms simulated, trace ${report.hash}`);
  return report.violations.length > 0 ? 1 : 0;
}

async function many(from: number, count: number): Promise<number> {
  const startedMs = performance.now();
  let done = 0;
  let events = 0;
  let simulatedMs = 0;
  const failed: number[] = [];
  await runSeeds({ from, count }, (report) => {
    done += 1;
    events += report.events;
    simulatedMs += report.simulatedMs;
    if (report.violations.length === 0) return;
    failed.push(report.seed);
    say(describeFailure(report));
  });
  const seconds = (performance.now() - startedMs) / 1_000;
  say(
    `${done} seeds, ${failed.length} failed, ${events} events, ${(simulatedMs / 3_600_000).toFixed(1)} h simulated in ${seconds.toFixed(1)} s`,
  );
  if (failed.length > 0) say(`failed: ${failed.toSorted((a, b) => a - b).join(" ")}`);
  return failed.length > 0 ? 1 : 0;
}

process.exitCode =
  values.seed === undefined ? await many(Number(values.from), Number(values.seeds)) : await one(Number(values.seed));
