// What stays of a run that broke a promise, for who looks into it: the folders of nodes and agents as they are, what the
// programs said, the history that was judged and the report. Invariant: nothing of the site itself is changed.
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import type { History } from "./history.ts";
import { asMarkdown, type Report } from "./report.ts";
import type { Site } from "./site.ts";

/** Resolves with the folder. */
export async function keepEvidence(site: Site, history: History, report: Report): Promise<string> {
  const kept = await mkdtemp(join(tmpdir(), `holdfast-nemesis-${report.facts.seed}-`));
  for (const folder of site.folders) await copy(folder, join(kept, basename(folder)));
  const logs = join(kept, "logs");
  await mkdir(logs);
  for (const { name, program } of [...site.nodes, ...site.agents])
    await writeFile(join(logs, `${name}.log`), program.output);
  await writeFile(join(kept, "history.json"), JSON.stringify(history, plain, 2));
  await writeFile(join(kept, "report.md"), asMarkdown(report));
  return kept;
}

/** The programs still run: what goes away meanwhile is passed over, and told in a file beside the copy. */
async function copy(from: string, to: string): Promise<void> {
  try {
    await promisify(execFile)("cp", ["--archive", from, to]);
  } catch (cause) {
    await writeFile(`${to}.incomplete`, String(cause));
  }
}

function plain(_key: string, value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value);
  return value instanceof Set ? [...value] : value;
}
