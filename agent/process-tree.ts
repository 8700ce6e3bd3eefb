// Ends everything an attempt started: TERM, grace, KILL, and a look whether it is gone. The shim is spared, for it
// writes how the script ended, and so are its relays, which store what the script wrote and end with it. The tree is found
// by its control group where there is one, and by session, group, parents and the inherited attempt id.
// Invariant: a process is signalled only when it belongs to the attempt by one of these marks at that moment.
import type { AttemptId } from "../shared/ids.ts";
import type { Clock } from "../shared/clock.ts";
import type { ProcessRow } from "./process-table.ts";
import { hasEnvironment, isAlive, listProcesses } from "./process-table.ts";
import type { RelayMark, ShimMark } from "./shim-report.ts";

export const attemptIdVariable = "HOLDFAST_ATTEMPT_ID";

export interface Tree {
  readonly attempt: AttemptId;
  /** Missing when no shim ever signed. */
  readonly shim: ShimMark | undefined;
  readonly relays: () => readonly RelayMark[];
  /** True once the script is over and the shim's children are its own `sync`, which must not be killed. */
  readonly isConcluding: () => boolean;
  /** `swept`: the script ended by itself, and this is a look for what it left behind. */
  readonly ending: "killed" | "swept";
}

export interface KillOptions {
  /** Between TERM and KILL; 0 kills at once. */
  readonly graceMs: number;
  /** After KILL: what still lives then is reported. */
  readonly verifyMs: number;
}

export interface Member {
  readonly pid: number;
  /** The script itself, or a shim on its way to it; not what they left behind. */
  readonly isScript: boolean;
}

/** What the system can tell and do about processes. */
export interface ProcessControl {
  /** By pid and start time, never by pid alone. */
  isAlive(process: RelayMark): boolean;
  /** Everything alive that belongs to the attempt, without the shim and its relays. */
  membersOf(tree: Tree): readonly Member[];
  /** Whether this relay only waits for more to come: what was written so far is stored. */
  isIdle(relay: RelayMark): boolean;
  /** Nothing happens when it is gone already, or not ours to kill: the next look decides. */
  signal(pid: number, name: NodeJS.Signals): void;
  /** KILL to all of the attempt's control group at once, where it has one. */
  killGroup?(): void;
  /** Whether nobody lives in the attempt's control group, where it has one: no look at single processes is as sure. */
  isGroupEmpty?(): boolean;
}

export interface KillDeps {
  readonly clock: Clock;
  readonly processes: ProcessControl;
  readonly signal?: AbortSignal;
  /** Something of the tree lives and is about to be signalled; not called when it had ended by itself. */
  readonly beforeFirstSignal?: (members: readonly Member[]) => void;
}

/** Ends the tree and gives the pids that would not die (uninterruptible sleep, another user). */
export async function killTree(tree: Tree, options: KillOptions, deps: KillDeps): Promise<number[]> {
  const { clock, processes } = deps;
  let members = processes.membersOf(tree);
  // Of processes that fork and end a look may find none: the list is old when its entries are read.
  const isGone = (): boolean => members.length === 0 && processes.isGroupEmpty?.() !== false;
  if (isGone()) return [];
  deps.beforeFirstSignal?.(members);
  if (options.graceMs > 0) {
    const deadlineMs = clock.monotonicMs() + options.graceMs;
    const asked = new Set<number>();
    for (let pauseMs = 5; !isGone() && clock.monotonicMs() < deadlineMs; pauseMs = Math.min(pauseMs * 2, 100)) {
      for (const { pid } of members) {
        if (asked.has(pid)) continue;
        asked.add(pid);
        processes.signal(pid, "SIGTERM");
        // A stopped process acts on TERM only once it goes on.
        processes.signal(pid, "SIGCONT");
      }
      await clock.sleep(Math.min(pauseMs, Math.max(1, deadlineMs - clock.monotonicMs())), deps.signal);
      members = processes.membersOf(tree);
    }
  }
  const deadlineMs = clock.monotonicMs() + options.verifyMs;
  for (let pauseMs = 2; !isGone(); pauseMs = Math.min(pauseMs * 2, 100)) {
    processes.killGroup?.();
    for (const { pid } of members) processes.signal(pid, "SIGKILL");
    if (clock.monotonicMs() >= deadlineMs) return members.map(({ pid }) => pid);
    await clock.sleep(pauseMs, deps.signal);
    members = processes.membersOf(tree);
  }
  return [];
}

/** `grouped` are the processes of its control group, which hold whatever else they changed. */
export function membersOf(tree: Tree, grouped: readonly number[] = []): Member[] {
  const { attempt, shim } = tree;
  // A dead shim's pid may be another's session by now; its own children still carry the attempt id.
  const root = shim !== undefined && isAlive(shim) ? shim.pid : undefined;
  const isConcluding = tree.isConcluding();
  const rows = listProcesses();
  const mark = `${attemptIdVariable}=${attempt}`;
  const members = new Map<number, ProcessRow>();
  const relays = tree.relays();
  const isRelay = ({ pid, startTicks }: ProcessRow): boolean =>
    relays.some((relay) => relay.pid === pid && relay.startTicks === startTicks);
  const relayPids = new Set(rows.filter(isRelay).map(({ pid }) => pid));
  const isSpared = ({ pid, parent }: ProcessRow): boolean =>
    pid === root ||
    pid === process.pid ||
    relayPids.has(pid) ||
    relayPids.has(parent) ||
    (isConcluding && parent === root);
  const inGroup = new Set(grouped);
  // What is older than the shim cannot come from it; this spares reading most environments.
  const since = shim === undefined ? 0 : Number(shim.startTicks);
  for (const row of rows) {
    if (isSpared(row)) continue;
    if (inGroup.has(row.pid)) members.set(row.pid, row);
    if (Number(row.startTicks) < since) continue;
    const isOurs = root !== undefined && (row.session === root || row.group === root);
    if (isOurs || hasEnvironment(row.pid, mark)) members.set(row.pid, row);
  }
  // Children that changed session and environment both are still somebody's children until their parent dies.
  for (let before = -1; before !== members.size;) {
    before = members.size;
    for (const row of rows) if (members.has(row.parent) && !isSpared(row)) members.set(row.pid, row);
  }
  // The shim's child is the script: what a script that has ended left behind has another parent by now. A shim that has
  // not signed is a member itself.
  return [...members.values()].map(({ pid, parent }) => ({ pid, isScript: root === undefined || parent === root }));
}

/** Asleep with all it started. Who waits for a disk, was stopped or computes is not. */
function isIdle({ pid }: RelayMark): boolean {
  return listProcesses().every((row) => (row.pid !== pid && row.parent !== pid) || row.state === "S");
}

export const localProcesses: ProcessControl = {
  isAlive,
  membersOf,
  isIdle,
  signal(pid, name) {
    try {
      process.kill(pid, name);
    } catch {
      // Gone already, or not ours to kill.
    }
  },
};
