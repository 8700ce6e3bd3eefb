// The nemesis' command line: `npm run nemesis -- --minutes 5 [--seed N] [--rate 20] [--tasks N] [--agents 20] [--nodes 3]
// [--report FILE]`, with the rate in submissions a second.
// Needs root, `ip`, `nft` and `tc`. Ctrl-C ends it in order. Exit code: 0 without violations, 1 with some, 130 when broken off.
import { randomInt } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { SeparateNetwork } from "../harness/separate-network.ts";
import { asMarkdown } from "./report.ts";
import { runNemesis } from "./run.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "5" },
    seed: { type: "string" },
    rate: { type: "string", default: "20" },
    tasks: { type: "string" },
    agents: { type: "string", default: "20" },
    nodes: { type: "string", default: "3" },
    /** Without its ending: `.md` and `.json` are written. */
    report: { type: "string" },
  },
});

function positive(name: "minutes" | "rate" | "tasks" | "agents" | "nodes"): number {
  const value = Number(values[name]);
  if (value > 0 && value < 1_000_000) return value;
  process.stderr.write(`nemesis: --${name} ${values[name]}: expected a number above 0\n`);
  process.exit(2);
}

const startedMs = performance.now();
const say = (line: string): void =>
  void process.stdout.write(`[${((performance.now() - startedMs) / 1_000).toFixed(1).padStart(6)}] ${line}\n`);

const broken = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => broken.abort());
// What was made is removed then too.
process.on("uncaughtException", (cause) => {
  process.stderr.write(`nemesis: ${cause.stack ?? cause.message}\n`);
  broken.abort();
});

const whyNot = await SeparateNetwork.whyNot();
if (whyNot !== undefined) {
  process.stderr.write(
    `nemesis: no network of its own can be made (needs root and what scripts/install-test-tools.sh installs): ${whyNot}\n`,
  );
  process.exit(2);
}
const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed);
say(`seed ${seed}`);
try {
  const options = { nodes: positive("nodes"), agents: positive("agents"), perSecond: positive("rate") };
  const tasks = values.tasks === undefined ? {} : { tasksAtMost: positive("tasks") };
  const report = await runNemesis(
    { ...options, ...tasks, seed, lastsMs: positive("minutes") * 60_000, say },
    broken.signal,
  );
  const markdown = asMarkdown(report);
  process.stdout.write(`\n${markdown}`);
  if (values.report !== undefined) {
    await writeFile(`${values.report}.md`, markdown);
    await writeFile(`${values.report}.json`, `${JSON.stringify(report, undefined, 2)}\n`);
  }
  process.exitCode = report.violations.length > 0 ? 1 : 0;
} catch (cause) {
  process.stderr.write(`nemesis: seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}\n`);
  process.exitCode = broken.signal.aborted ? 130 : 1;
}
// Node 26.10 was seen to spin for ever as it closed handles of sockets that had been reset; everything of ours is gone by now.
process.exit();
