// Makes the control groups of attempts beside the agent's own, wherever the host lets it: one tree per attempt, so that
// nothing a script starts escapes its end, and limits for all of it. What is in them is attempt-cgroup.ts's.
// Invariant: an agent touches no group but those under a folder of its own name.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { AppError, describeError, errnoOf } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import { AttemptCgroup, removeGroup, type GroupPlace } from "./attempt-cgroup.ts";
import type { CgroupLayout, Controller } from "./cgroup-layout.ts";

export interface ResourceLimits {
  readonly memoryBytes?: number | undefined;
  readonly pids?: number | undefined;
}

/** Where the unit keeps the agent itself (`DelegateSubgroup=`): groups get controllers only beside processes, not below. */
export const agentSubgroup = "holdfast-agent";

type Base = Pick<GroupPlace, "version" | "path">;

export class Cgroups {
  readonly #bases: Readonly<Partial<Record<GroupPlace["use"], Base>>>;

  private constructor(bases: Readonly<Partial<Record<GroupPlace["use"], Base>>>) {
    this.#bases = bases;
  }

  /** Undefined on a host that lets this process make no group at all. `name` tells the agents of one host apart. */
  static open(layout: CgroupLayout, name: string): Cgroups | undefined {
    const own = layout.unified;
    const parent = own !== undefined && basename(own) === agentSubgroup ? dirname(own) : own;
    const unified = baseUnder(parent, name, 2);
    const given = parent === undefined || unified === undefined ? [] : enableControllers([parent, unified.path]);
    const memory = given.includes("memory") ? unified : baseUnder(layout.legacy.memory, name, 1);
    const pids = given.includes("pids") ? unified : baseUnder(layout.legacy.pids, name, 1);
    const tree = unified ?? pids ?? memory;
    if (tree === undefined) return undefined;
    return new Cgroups({
      tree,
      ...(memory === undefined ? {} : { memory }),
      ...(pids === undefined ? {} : { pids }),
    });
  }

  canLimit(controller: Controller): boolean {
    return this.#bases[controller] !== undefined;
  }

  /** Makes the groups of an attempt. Throws `internal` when the host refuses them. */
  make(attempt: AttemptId, limits: ResourceLimits): AttemptCgroup {
    const wanted: GroupPlace["use"][] = ["tree"];
    if (limits.memoryBytes !== undefined) wanted.push("memory");
    if (limits.pids !== undefined) wanted.push("pids");
    const places = wanted.map((use): GroupPlace => {
      const base = this.#bases[use];
      if (base === undefined) throw new AppError("internal", `this host lets the agent set no limit of ${use}`);
      return { use, version: base.version, path: join(base.path, attempt) };
    });
    try {
      for (const place of places) {
        mkdirSync(place.path, { recursive: true });
        if (place.use === "memory") limitMemory(place, limits.memoryBytes ?? 0);
        if (place.use === "pids") writeFileSync(join(place.path, "pids.max"), String(limits.pids ?? 0));
      }
    } catch (cause) {
      throw new AppError("internal", `cannot make the attempt's control group: ${describeError(cause)}`, { cause });
    }
    return new AttemptCgroup(places);
  }

  /** What is left of an attempt's groups; one in which something lives stays. */
  remove(attempt: AttemptId): void {
    const paths = Object.values(this.#bases).map(({ path }) => join(path, attempt));
    for (const path of new Set(paths)) removeGroup(path);
  }
}

/** A folder of ours under `parent`; undefined when we may not make one. */
function baseUnder(parent: string | undefined, name: string, version: 1 | 2): Base | undefined {
  if (parent === undefined) return undefined;
  const path = join(parent, name);
  try {
    mkdirSync(path, { recursive: true });
    return { version, path };
  } catch (cause) {
    if (["EACCES", "EPERM", "EROFS", "ENOENT"].includes(errnoOf(cause) ?? "")) return undefined;
    throw cause;
  }
}

/** The controllers that groups below the last folder have. A parent with processes in it gives none, but for the root. */
function enableControllers(folders: readonly string[]): string[] {
  let enabled = "";
  for (const folder of folders) {
    const control = join(folder, "cgroup.subtree_control");
    for (const controller of ["memory", "pids"]) {
      try {
        writeFileSync(control, `+${controller}`);
      } catch {
        // Not there, not delegated, or processes in the way: then limits of it are refused.
      }
    }
    try {
      enabled = readFileSync(control, "utf8");
    } catch {
      return [];
    }
  }
  return enabled.trim().split(/\s+/);
}

/** Swap would only make a script slow that is to be stopped. */
function limitMemory({ version, path }: GroupPlace, bytes: number): void {
  writeFileSync(join(path, version === 2 ? "memory.max" : "memory.limit_in_bytes"), String(bytes));
  const [file, value] = version === 2 ? ["memory.swap.max", "0"] : ["memory.memsw.limit_in_bytes", String(bytes)];
  try {
    writeFileSync(join(path, file), value);
  } catch (cause) {
    // A kernel that does not count swap.
    if (!["ENOENT", "EOPNOTSUPP", "EACCES"].includes(errnoOf(cause) ?? "")) throw cause;
  }
}
