// Runs every planted bug and writes the table of docs/proof.md between its two marks: `npm run simulate:score`.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { plantedBugs } from "./bugs.ts";
import { findBug, type Score } from "./score.ts";

const path = resolve(import.meta.dirname, "../../../docs/proof.md");
const marks = { begin: "<!-- planted bugs: begin -->", end: "<!-- planted bugs: end -->" };
const say = (line: string): void => void process.stdout.write(`${line}\n`);

export function tableOf(scores: readonly Score[]): string {
  const rows = scores.map(({ bug, seeds, invariant }) => {
    const where = bug.file.startsWith("test/") ? `model of ${standsFor(bug.file)}` : `\`${bug.file}\``;
    const found = seeds > bug.within ? `**not in ${bug.within}**` : `${seeds}`;
    return `| ${bug.name} | ${bug.about} | ${where} | ${found} | ${invariant} |`;
  });
  return [
    "| Bug | What is wrong | Where | Seeds until found | Caught by |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

function standsFor(file: string): string {
  return file.includes("/model/") ? "the SQL" : "shim and machine";
}

const scores: Score[] = [];
const waiting = [...plantedBugs.entries()];
const work = async (): Promise<void> => {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    const [index, bug] = next;
    const score = await findBug(bug);
    scores[index] = score;
    const found = score.seeds > bug.within ? "NOT FOUND" : `seed ${score.seeds}, ${score.violation.slice(0, 120)}`;
    say(`${bug.name}: ${found}`);
  }
};
await Promise.all(Array.from({ length: availableParallelism() + 1 }, work));
const text = existsSync(path) ? readFileSync(path, "utf8") : `${marks.begin}\n${marks.end}\n`;
const [before = "", rest = ""] = text.split(marks.begin);
const after = rest.split(marks.end)[1] ?? "\n";
writeFileSync(path, `${before}${marks.begin}\n\n${tableOf(scores)}\n\n${marks.end}${after}`);
process.exitCode = scores.every(({ seeds, bug }) => seeds <= bug.within) ? 0 : 1;
