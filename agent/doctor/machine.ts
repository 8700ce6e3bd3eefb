// Doctor's checks of the machine: room on the disk, control groups, interpreters. Makes nothing: a group made to find out
// would turn up in the running agent's tree.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { stat, statfs } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { defaultFreeBytesAtLeast } from "../admission.ts";
import { parseCgroupLayout } from "../cgroup-layout.ts";
import type { CgroupLayout, Controller } from "../cgroup-layout.ts";
import { agentSubgroup } from "../cgroups.ts";
import { reserveBytes } from "../disk-reserve.ts";
import type { HealthLine } from "../health-line.ts";
import { findInterpreter, interpreterNames } from "../interpreters.ts";
import type { CheckRow } from "./check-row.ts";
import { failed, noted, passed, warned } from "./check-row.ts";
import { asReadable } from "./files.ts";

const mebi = 1024 * 1024;
const shown = (bytes: number): string => `${Math.floor(bytes / mebi)} MiB`;
/** What one script may take of the disk: two streams of 88 MiB at most (docs/operations.md). */
const scriptBytes = 2 * 88 * mebi;
/** An attempt's folder takes about twenty. */
const fewInodes = 10_000;

export async function checkDisk(dataPath: string, health: HealthLine | undefined): Promise<CheckRow[]> {
  try {
    const { bavail, bsize, files, ffree } = await statfs(dataPath);
    const refusedBelowBytes = health?.disk.refusedBelowBytes ?? defaultFreeBytesAtLeast;
    const rows = [checkSpace(dataPath, { freeBytes: bavail * bsize, refusedBelowBytes })];
    // A file system without a fixed number of them says 0 of 0.
    if (files > 0) rows.push(checkInodes(dataPath, { files, ffree }));
    return [...rows, await checkReserve(join(dataPath, "reserve"), bavail * bsize)];
  } catch (cause) {
    const { message, mend } = asReadable(cause);
    return [failed("disk", { seen: message, mend })];
  }
}

function checkSpace(
  dataPath: string,
  detail: { readonly freeBytes: number; readonly refusedBelowBytes: number },
): CheckRow {
  const { freeBytes, refusedBelowBytes } = detail;
  const seen = `${shown(freeBytes)} free, offers are refused below ${shown(refusedBelowBytes)}`;
  const mend = `Free space on the file system of ${dataPath}, or register into a --data-dir on a larger one.`;
  if (freeBytes < refusedBelowBytes) return failed("disk", { seen: `${seen}: the agent takes no work`, mend, detail });
  if (freeBytes < refusedBelowBytes + scriptBytes)
    return warned("disk", { seen: `${seen}; one script may write ${shown(scriptBytes)}`, mend, detail });
  return passed("disk", { seen, detail });
}

function checkInodes(dataPath: string, detail: { readonly files: number; readonly ffree: number }): CheckRow {
  const seen = `${detail.ffree} of ${detail.files} inodes free`;
  const mend = `Remove files from the file system of ${dataPath}: without inodes no attempt gets its folder.`;
  if (detail.ffree === 0) return failed("inodes", { seen, mend, detail });
  if (detail.ffree < Math.min(fewInodes, detail.files / 10)) return warned("inodes", { seen, mend, detail });
  return passed("inodes", { seen, detail });
}

async function checkReserve(path: string, freeBytes: number): Promise<CheckRow> {
  const bytes = await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
  const detail = { bytes, expectedBytes: reserveBytes };
  if (bytes >= reserveBytes)
    return passed("reserve", { seen: `${shown(bytes)} kept for results on a full disk`, detail });
  const seen = "none is kept for results on a full disk";
  if (freeBytes >= 2 * reserveBytes) return noted("reserve", { seen: `${seen}; the next start fills it`, detail });
  const mend = `Free ${shown(2 * reserveBytes)}, then restart the agent: it fills the reserve when there is room for twice as much.`;
  return warned("reserve", { seen, mend, detail });
}

/** The running agent's own word; else what a process started where doctor was could do. */
export function checkControlGroups(health: HealthLine | undefined): CheckRow {
  const can = health?.cgroups ?? groupsHere();
  const detail = { ...can, by: health === undefined ? "doctor" : "agent" };
  const [by, limits] = [health === undefined ? "as seen from here" : "says the agent", controllersOf(can)];
  if (!can.tree) {
    const mend =
      "Run the agent as root or under a unit with `Delegate=yes`; without, a child that leaves session, group, parent and environment escapes, and tasks with --memory or --pids are refused.";
    return warned("control-groups", { seen: `none can be made (${by})`, mend, detail });
  }
  const missing = (["memory", "pids"] as const).filter((one) => !can[one]);
  if (missing.length === 0) return passed("control-groups", { seen: `tree and limits of ${limits} (${by})`, detail });
  const seen = `tree${limits === "" ? "" : ` and limits of ${limits}`}; tasks with a limit of ${missing.join(" or ")} are refused (${by})`;
  return noted("control-groups", { seen, detail });
}

const controllersOf = (can: HealthLine["cgroups"]): string =>
  (["memory", "pids"] as const).filter((one) => can[one]).join(" and ");

function groupsHere(): HealthLine["cgroups"] {
  try {
    const texts = [readFileSync("/proc/self/mountinfo", "utf8"), readFileSync("/proc/self/cgroup", "utf8")] as const;
    return groupsIn(parseCgroupLayout(...texts));
  } catch {
    return { tree: false, memory: false, pids: false };
  }
}

function groupsIn({ unified, legacy }: CgroupLayout): HealthLine["cgroups"] {
  const parent = unified !== undefined && basename(unified) === agentSubgroup ? dirname(unified) : unified;
  const isOurs = parent !== undefined && isWritable(parent);
  const given = parent === undefined || !isOurs ? [] : controllersBelow(parent);
  const can = (controller: Controller): boolean =>
    given.includes(controller) || (legacy[controller] !== undefined && isWritable(legacy[controller]));
  const [memory, pids] = [can("memory"), can("pids")];
  return { tree: isOurs || memory || pids, memory, pids };
}

/** Those that groups below have, or would be given: a group with processes in it gives none on, but for the root. */
function controllersBelow(group: string): string[] {
  const isRoot = !existsSync(join(group, "cgroup.type"));
  const canGive = isRoot || words(join(group, "cgroup.procs")).every((pid) => pid === "");
  return words(join(group, canGive ? "cgroup.controllers" : "cgroup.subtree_control"));
}

function words(path: string): string[] {
  try {
    return readFileSync(path, "utf8").trim().split(/\s+/);
  } catch {
    return [];
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export function checkInterpreters(health: HealthLine | undefined, searchPath: string | undefined): CheckRow {
  const found =
    health?.interpreters ?? interpreterNames.filter((name) => findInterpreter(name, searchPath) !== undefined);
  const missing = interpreterNames.filter((name) => !found.includes(name));
  const by = health === undefined ? "on this shell's PATH" : "says the agent";
  const without = missing.length === 0 ? "" : `; not ${missing.join(", ")}`;
  return noted("interpreters", {
    seen: `${found.length === 0 ? "none" : found.join(", ")}${without} (${by})`,
    detail: { found: [...found], missing },
  });
}
