// Reads /proc: which processes live, whose children they are, what they inherited. Decides nothing, kills nothing.
import { readdirSync, readFileSync } from "node:fs";

export interface ProcessRow {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
  /** `Z` and `X` are dead and only wait to be collected. */
  readonly state: string;
  readonly startTicks: string;
}

/** One process, or undefined when there is none. The name in field 2 may hold anything, so fields are counted behind it. */
export function readProcess(pid: number): ProcessRow | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state = "", parent, group, session] = fields;
  return {
    pid,
    state,
    parent: Number(parent),
    group: Number(group),
    session: Number(session),
    startTicks: fields[19] ?? "",
  };
}

export function isLive(row: ProcessRow): boolean {
  return row.state !== "Z" && row.state !== "X";
}

/** Alive means: this pid, started at this moment. A pid alone may be somebody else's by now. */
export function isAlive(process: { readonly pid: number; readonly startTicks: string }): boolean {
  const row = readProcess(process.pid);
  return row !== undefined && row.startTicks === process.startTicks && isLive(row);
}

export function listProcesses(): ProcessRow[] {
  return readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    const row = Number.isInteger(pid) ? readProcess(pid) : undefined;
    return row === undefined || !isLive(row) ? [] : [row];
  });
}

/** Whether the process was given this environment entry at its exec; false when it may not be read. */
export function hasEnvironment(pid: number, entry: string): boolean {
  const environment = readText(`/proc/${pid}/environ`);
  return environment !== undefined && (environment.startsWith(`${entry}\0`) || environment.includes(`\0${entry}\0`));
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}
