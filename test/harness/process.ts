// What the kernel knows about processes: memory, descriptors, children, command lines. Linux only, as the cluster tests are.
import { readFileSync, readdirSync } from "node:fs";

/** Throws when the process is gone, and when it is a zombie: that has no memory left to speak of. */
function status(pid: number, field: string): number {
  const line = new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  if (line === null) throw new Error(`process ${pid} has no ${field}`);
  return Number(line[1]);
}

/** Bytes resident now. Throws when the process is gone: its death must not pass for little memory. */
export function residentBytes(pid: number): number {
  return status(pid, "VmRSS") * 1_024;
}

/** The most bytes that were ever resident, so that no peak hides between two looks. */
export function peakResidentBytes(pid: number): number {
  return status(pid, "VmHWM") * 1_024;
}

/** Bytes of its own, without what it shares: what PostgreSQL's backends are to be judged by. 0 when it is gone. */
export function anonymousBytes(pid: number): number {
  try {
    return status(pid, "RssAnon") * 1_024;
  } catch {
    return 0;
  }
}

/** Descriptors that it has open now. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Whether a SIGSTOP holds it. */
export function isStopped(pid: number): boolean {
  try {
    return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Pids whose NUL-parted command line holds the text. */
export function pidsWith(text: string): number[] {
  return allPids().filter((pid) => {
    try {
      return isAlive(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").includes(text);
    } catch {
      return false;
    }
  });
}

/** The process and everything below it, parents first. */
export function treeOf(root: number): number[] {
  const children = Map.groupBy(allPids(), (pid) => {
    try {
      return status(pid, "PPid");
    } catch {
      return -1;
    }
  });
  const tree = [root];
  for (const pid of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

/** Sends a signal to pids that the test knows; one that is gone already is passed over. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // Gone already.
    }
  }
}

function allPids(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}
