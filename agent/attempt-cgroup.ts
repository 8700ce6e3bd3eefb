// The control groups of one attempt: who is in them, their end, what the kernel did there for want of memory. The shim puts
// the script in before it becomes the script, and stays outside with its relays.
// Invariant: written down in the attempt's folder before the shim starts, so that a successor of the agent finds them.
import { readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "../shared/errors.ts";

export interface GroupPlace {
  /** `tree` is there to be found and killed by; a script whose limit cannot be kept does not run. */
  readonly use: "tree" | "memory" | "pids";
  readonly version: 1 | 2;
  readonly path: string;
}

const linePattern = /^(tree|memory|pids) ([12]) (\/.+)$/;

/** One line each, as the shim reads them. */
export function formatPlaces(places: readonly GroupPlace[]): string {
  return places.map(({ use, version, path }) => `${use} ${version} ${path}\n`).join("");
}

export function parsePlaces(text: string): GroupPlace[] {
  return text.split("\n").flatMap((line) => {
    const [, use, version, path] = linePattern.exec(line) ?? [];
    if (use === undefined || path === undefined) return [];
    return [{ use: use as GroupPlace["use"], version: version === "1" ? 1 : 2, path }];
  });
}

export class AttemptCgroup {
  readonly places: readonly GroupPlace[];

  constructor(places: readonly GroupPlace[]) {
    this.places = places;
  }

  /** Of everything in them, also in groups that the script made there. */
  pids(): number[] {
    return [...new Set(this.#paths().flatMap((path) => pidsIn(path)))];
  }

  /** Known for certain: a group that cannot be read (of threads, say, or for want of a descriptor) may hold anything. */
  isEmpty(): boolean {
    try {
      return this.places.every(isEmptyGroup);
    } catch {
      return false;
    }
  }

  /** KILL to everything at once, so that nothing is born between two looks. Does nothing where the kernel cannot. */
  kill(): void {
    for (const { use, version, path } of this.places) {
      if (use !== "tree" || version !== 2) continue;
      try {
        writeFileSync(join(path, "cgroup.kill"), "1");
      } catch {
        // Before Linux 5.14, or gone: each process is signalled by its number.
      }
    }
  }

  /** How often the kernel killed a process of theirs for want of memory. */
  oomKills(): number {
    const counts = this.places
      .filter(({ use }) => use === "memory")
      .map(({ version, path }) => textOf(join(path, version === 2 ? "memory.events" : "memory.oom_control")));
    return counts.reduce((sum, text) => sum + Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0), 0);
  }

  /** What still lives keeps its group. */
  remove(): void {
    for (const path of this.#paths()) removeGroup(path);
  }

  #paths(): string[] {
    return [...new Set(this.places.map(({ path }) => path))];
  }
}

/** With groups that were made in it, the deepest first. */
export function removeGroup(path: string): void {
  for (const inner of groupsIn(path)) removeGroup(inner);
  try {
    rmdirSync(path);
  } catch {
    // Something lives in it, or it has gone.
  }
}

function pidsIn(path: string): number[] {
  const own = textOf(join(path, "cgroup.procs")).split("\n").map(Number);
  return [...own.filter((pid) => pid > 0), ...groupsIn(path).flatMap(pidsIn)];
}

/** With the groups in it. Throws when it cannot be told. */
function isEmptyGroup({ version, path }: GroupPlace): boolean {
  try {
    // The kernel's own count: a list of processes that fork and end may miss them all.
    if (version === 2) return /^populated 0$/m.test(readFileSync(join(path, "cgroup.events"), "utf8"));
    if (readFileSync(join(path, "cgroup.procs"), "utf8") !== "") return false;
    const inner = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return inner.every(({ name }) => isEmptyGroup({ use: "tree", version, path: join(path, name) }));
  } catch (cause) {
    // A group with somebody in it cannot be removed.
    if (errnoOf(cause) === "ENOENT" || errnoOf(cause) === "ENODEV") return true;
    throw cause;
  }
}

function groupsIn(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? [join(path, entry.name)] : [],
    );
  } catch {
    return [];
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
