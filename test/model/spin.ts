// Runs Spin on a Promela model: translate, compile, search, each within a time and a memory limit. A search that was not
// finished is an error, never a pass.
import { execFile, spawnSync } from "node:child_process";
import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

export interface SearchOptions {
  readonly model: string;
  /** Defined for the model's preprocessor, such as `FAULTS=2`. */
  readonly define?: readonly string[];
  /** `safety`: assertions in every state. `liveness`: the named LTL formula as well. */
  readonly search: "safety" | { readonly formula: string };
  readonly memoryMiB?: number;
  readonly limitMs?: number;
}

export interface SearchResult {
  readonly states: number;
  readonly depth: number;
  /** What was violated first, in Spin's words; undefined when the whole state space was searched in vain. */
  readonly violation: string | undefined;
  /** The acts that lead there, as lines of the model. */
  readonly trail: string;
}

export function missingTools(): readonly string[] {
  return ["spin", "gcc"].filter((tool) => spawnSync(tool, ["--version"], { stdio: "ignore" }).error !== undefined);
}

export async function search(options: SearchOptions): Promise<SearchResult> {
  const { model, define = [], memoryMiB = 2_000, limitMs = 150_000 } = options;
  const folder = await mkdtemp(join(tmpdir(), "holdfast-spin-"));
  const run = (file: string, args: readonly string[]): Promise<{ readonly code: number; readonly output: string }> =>
    new Promise((resolve, reject) => {
      execFile(file, [...args], { cwd: folder, timeout: limitMs, maxBuffer: 64 * 1024 * 1024 }, (error, out, err) => {
        if (error?.killed === true) reject(new Error(`${file} took more than ${limitMs} ms: ${out.slice(-500)}`));
        else resolve({ code: error === null ? 0 : Number(error.code), output: `${out}\n${err}` });
      });
    });
  const mustRun = async (file: string, args: readonly string[]): Promise<string> => {
    const { code, output } = await run(file, args);
    if (code !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${code}: ${output.slice(0, 2_000)}`);
    return output;
  };
  const name = basename(model);
  const flags = define.map((one) => `-D${one}`);
  const isSafety = options.search === "safety";
  const formula = options.search === "safety" ? [] : ["-a", "-N", options.search.formula];
  try {
    await cp(model, join(folder, name));
    await mustRun("spin", [...flags, "-a", name]);
    const shape = ["-DCOLLAPSE", `-DMEMLIM=${memoryMiB}`, ...(isSafety ? ["-DSAFETY"] : [])];
    await mustRun("gcc", ["-O1", "-w", ...shape, "-o", "pan", "pan.c"]);
    // Invalid end states are no errors (-E): the model itself asserts what must hold when no action is left.
    const { output } = await run("./pan", ["-m100000", "-w22", "-E", ...formula]);
    const count = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? Number.NaN);
    const errors = count(/errors: (\d+)/);
    const violation = /^pan:1: (.*) \(at depth/m.exec(output)?.[1];
    if (Number.isNaN(errors) || errors > 0 !== (violation !== undefined)) throw new Error(output.slice(0, 4_000));
    if (violation === undefined && /Search not completed|out of memory|max search depth/.test(output))
      throw new Error(`the search was not completed: ${output.slice(0, 4_000)}`);
    return {
      states: count(/^\s*(\d+) states, stored/m),
      depth: count(/depth reached (\d+)/),
      violation,
      trail: violation === undefined ? "" : await trail(),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }

  /** Each line of the model on the way, once per act. */
  async function trail(): Promise<string> {
    const source = (await readFile(model, "utf8")).split("\n");
    const { output } = await run("spin", [...flags, "-t", "-p", name]);
    const numbers = [...output.matchAll(/^\s*\d+:\s+proc\s+\d+ \((\w+):.*?\.pml:(\d+) /gm)];
    const acts = numbers.map(([, process, line]) => `${process}: ${source[Number(line) - 1]?.trim() ?? ""}`);
    return acts.filter((act, index) => act.includes("atomic") && act !== acts[index - 1]).join("\n");
  }
}
