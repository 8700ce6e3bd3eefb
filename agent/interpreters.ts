// Which program runs a script: a known name found on PATH, or an absolute path. Leaves spawning to execution.ts.
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, isAbsolute, join } from "node:path";

interface Known {
  readonly scriptName: string;
  readonly args: readonly string[];
}

const known: Readonly<Record<string, Known>> = {
  bash: { scriptName: "script", args: [] },
  sh: { scriptName: "script", args: [] },
  python3: { scriptName: "script.py", args: [] },
  node: { scriptName: "script.js", args: [] },
  pwsh: { scriptName: "script.ps1", args: ["-NoLogo", "-NoProfile", "-NonInteractive", "-File"] },
};

export const defaultSearchPath = "/usr/local/bin:/usr/bin:/bin";

/** For programs that the agent runs on its own behalf: folders of the system, whatever its own PATH names. */
export const systemPath = "/usr/bin:/bin:/usr/sbin:/sbin";

export const interpreterNames: readonly string[] = Object.keys(known);

export interface Interpreter {
  readonly program: string;
  /** Arguments before the script's path. */
  readonly args: readonly string[];
  readonly scriptName: string;
}

/** Undefined when the name is unknown, not on PATH, or the path is no executable file. */
export function findInterpreter(name: string, searchPath: string | undefined): Interpreter | undefined {
  if (isAbsolute(name)) return isExecutable(name) ? { program: name, args: [], scriptName: "script" } : undefined;
  const entry = Object.hasOwn(known, name) ? known[name] : undefined;
  if (entry === undefined) return undefined;
  const program = (searchPath ?? defaultSearchPath)
    .split(delimiter)
    .filter((folder) => isAbsolute(folder))
    .map((folder) => join(folder, name))
    .find(isExecutable);
  return program === undefined ? undefined : { program, ...entry };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
