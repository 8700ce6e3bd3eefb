// What a bench leaves in results/<name>.json: rows of one shape, and the details that explain them. A row answers one
// question with the median of its repeats and their spread, beside the floor of the same run and the target it has.
// Invariant: docs/performance.md says nothing that is not in these files.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { ownVersion } from "../shared/version.ts";
import { targetOf } from "./targets.ts";

const figureSchema = z.strictObject({ median: z.number(), min: z.number(), max: z.number(), unit: z.string() });
export type Figure = z.infer<typeof figureSchema>;

const machineSchema = z.strictObject({
  cores: z.int(),
  cpu: z.string(),
  memoryGiB: z.int(),
  kernel: z.string(),
  node: z.string(),
  /** Load average of the last minute when the bench ended: what else ran, and the bench itself. */
  load: z.number().optional(),
});

const rowSchema = z.strictObject({
  question: z.string(),
  figure: figureSchema,
  floor: figureSchema.extend({ what: z.string() }).optional(),
  /** The figure's median over the floor's. */
  ratio: z.number().optional(),
  target: z.string().optional(),
  repeats: z.int().min(1),
  machine: machineSchema,
  at: z.iso.datetime(),
  version: z.string(),
  commit: z.string().optional(),
});
export type ResultRow = z.infer<typeof rowSchema>;

const fileSchema = z.strictObject({
  bench: z.string(),
  rows: z.array(rowSchema).min(1),
  details: z.record(z.string(), z.unknown()),
});
export type ResultFile = z.infer<typeof fileSchema>;

/** One answer as a bench has it: a value per repeat. `question` is known to targets.ts when it has a target. */
export interface Answer {
  readonly question: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly floor?: { readonly what: string; readonly values: readonly number[] } | undefined;
}

export const resultsFolder = join(import.meta.dirname, "results");

export function round(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}

export function figureOf(values: readonly number[], unit: string): Figure {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  const half = sorted.length / 2;
  const median = sorted.length % 2 === 1 ? at(Math.floor(half)) : (at(half - 1) + at(half)) / 2;
  return { median: round(median), min: round(at(0)), max: round(at(sorted.length - 1)), unit };
}

/** Writes results/<name>.json and shows it. */
export function report(name: string, answers: readonly Answer[], details: Readonly<Record<string, unknown>>): void {
  const circumstances = {
    machine: {
      cores: cpus().length,
      cpu: cpus()[0]?.model ?? "",
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      kernel: release(),
      node: process.version,
      load: round(loadavg()[0] ?? 0),
    },
    at: new Date().toISOString(),
    version: ownVersion(),
    ...startedFrom,
  };
  const rows = answers.map((answer) => ({ ...rowOf(answer), ...circumstances }));
  mkdirSync(resultsFolder, { recursive: true });
  const file = fileSchema.parse({ bench: name, rows, details });
  writeFileSync(join(resultsFolder, `${name}.json`), `${JSON.stringify(file, null, 2)}\n`);
  console.log(JSON.stringify({ rows: answers.map(rowOf), details }, null, 2));
}

function rowOf({ question, unit, values, floor }: Answer) {
  const figure = figureOf(values, unit);
  const under = floor === undefined ? undefined : figureOf(floor.values, unit);
  const target = targetOf(question)?.text;
  return {
    question,
    figure,
    ...(under === undefined || floor === undefined
      ? {}
      : { floor: { ...under, what: floor.what }, ratio: round(figure.median / under.median) }),
    ...(target === undefined ? {} : { target }),
    repeats: values.length,
  };
}

/** What runs is what was there when it was loaded. */
const startedFrom = commitNow();

/** With a mark when the tree holds more than the commit. Nothing outside a checkout. */
function commitNow(): { readonly commit?: string } {
  const git = (...args: string[]): string =>
    execFileSync("git", args, { cwd: import.meta.dirname, stdio: "pipe" }).toString();
  try {
    const changed = git("status", "--porcelain", "--", "..", ":!results", ":!../docs").trim();
    return { commit: git("rev-parse", "--short=9", "HEAD").trim() + (changed === "" ? "" : "+") };
  } catch {
    return {};
  }
}

/** Every result there is, checked, in the order of the names. */
export function readResults(folder: string = resultsFolder): ResultFile[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .toSorted()
    .map((name) => fileSchema.parse(JSON.parse(readFileSync(join(folder, name), "utf8"))));
}
