// Makes the control groups of attempts beside the agent's own, wherever the host lets it: one tree per attempt, so that
// nothing a script starts escapes its end, and limits for all of it. What is in them is attempt-cgroup.ts's.
// Invariant: an agent touches no group but those under a folder of its own name.
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { AppError, describeError, errnoOf } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import { AttemptCgroup, removeGroup, type GroupPlace } from "./attempt-cgroup.ts";
import { CgroupEntry } from "./cgroup-entry.ts";
import { parseCgroupLayout, type Controller } from "./cgroup-layout.ts";

export interface ResourceLimits {
  readonly memoryBytes?: number | undefined;
  readonly pids?: number | undefined;
}

/** Where the unit keeps the agent itself (`DelegateSubgroup=`): groups get controllers only beside processes, not below. */
export const agentSubgroup = "holdfast-agent";

type Base = Pick<GroupPlace, "version" | "path">;

export class Cgroups {
  readonly #bases: Readonly<Partial<Record<GroupPlace["use"], Base>>>;
  /** Only of version 2: since Linux 5.5 the shim enters a group of version 1 without a wait. */
  readonly #entry: CgroupEntry | undefined;

  private constructor(bases: Readonly<Partial<Record<GroupPlace["use"], Base>>>, entry: CgroupEntry | undefined) {
    this.#bases = bases;
    this.#entry = entry;
  }

  /** Undefined on a host that lets this process make no group at all. `name` tells the agents of one host apart. */
  static open(mountInfo: string, ownGroups: string, name: string): Cgroups | undefined {
    const layout = parseCgroupLayout(mountInfo, ownGroups);
    const own = layout.unified;
    const parent = own !== undefined && basename(own) === agentSubgroup ? dirname(own) : own;
    const unified = unifiedBase(parent, name);
    const given = parent === undefined || unified === undefined ? [] : enableControllers([parent, unified.path]);
    const memory = given.includes("memory") ? unified : legacyBase(layout.legacy.memory, name);
    const pids = given.includes("pids") ? unified : legacyBase(layout.legacy.pids, name);
    const tree = unified ?? pids ?? memory;
    if (tree === undefined) return undefined;
    const bases = {
      tree,
      ...(memory === undefined ? {} : { memory }),
      ...(pids === undefined ? {} : { pids }),
    };
    const isUnified = own !== undefined && unified !== undefined;
    return new Cgroups(bases, isUnified ? new CgroupEntry({ path: own, ownGroups }) : undefined);
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

  /** A script will enter a group within some milliseconds. Not before {@link make}, which would wait for it. Never rejects. */
  async expectEntry(): Promise<void> {
    await this.#entry?.expect();
  }

  /** The agent stops: its folders go, unless something lives in them. */
  close(): void {
    for (const path of new Set(Object.values(this.#bases).map(({ path: base }) => base))) {
      try {
        rmdirSync(path);
      } catch {
        // Scripts go on in there; the next start finds it.
      }
    }
  }

  /** What is left of an attempt's groups; one in which something lives stays. */
  remove(attempt: AttemptId): void {
    const paths = Object.values(this.#bases).map(({ path }) => join(path, attempt));
    for (const path of new Set(paths)) removeGroup(path);
  }
}

/** On this host. Undefined where there are no control groups, or none that this process may use. */
export function openCgroups(name: string): Cgroups | undefined {
  let texts: readonly [string, string];
  try {
    texts = [readFileSync("/proc/self/mountinfo", "utf8"), readFileSync("/proc/self/cgroup", "utf8")];
  } catch {
    return undefined;
  }
  return Cgroups.open(...texts, name);
}

/** A folder of ours under `parent`; undefined when we may not make one. */
function unifiedBase(parent: string | undefined, name: string): Base | undefined {
  if (parent === undefined) return undefined;
  const path = join(parent, name);
  try {
    mkdirSync(path, { recursive: true });
    return { version: 2, path };
  } catch (cause) {
    if (["EACCES", "EPERM", "EROFS", "ENOENT"].includes(errnoOf(cause) ?? "")) return undefined;
    throw cause;
  }
}

/** Made with the first limit that is asked for. */
function legacyBase(parent: string | undefined, name: string): Base | undefined {
  if (parent === undefined) return undefined;
  try {
    accessSync(parent, constants.W_OK);
    return { version: 1, path: join(parent, name) };
  } catch {
    return undefined;
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
