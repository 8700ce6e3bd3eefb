// What the shim writes: its signature in `run/shim` and the end of the script in `exit`. Pure parsing.
// Invariant: a line that was cut anywhere is no report.
import { constants } from "node:os";
import type { Exit, SeenExit } from "./exit.ts";

export interface ShimMark {
  readonly pid: number;
  /** Clock ticks after boot, field 22 of /proc/<pid>/stat: with the pid it names the process for ever. */
  readonly startTicks: string;
  /** Seconds after boot, suspend included, times 1,000. */
  readonly uptimeMs: number;
}

/** A process of the shim's that moves output: the pid and the start time name it for ever. */
export type RelayMark = Pick<ShimMark, "pid" | "startTicks">;

export interface ExitReport {
  readonly exit: SeenExit;
  readonly uptimeMs: number;
}

const markPattern = /^1 (\d+) (\d+) (\d+)\.(\d\d) \.\n$/;
/** Behind these lines may be what is left of the placeholder that they were written over. */
const relaysPattern = /^1 (\d+) (\d+) (\d+) (\d+) \.\n/;
const exitPattern = /^1 (\d+) (\d+)\.(\d\d) ([^\n]*) \.\n/;

export function parseShimMark(text: string): ShimMark | undefined {
  const match = markPattern.exec(text);
  if (match === null) return undefined;
  const [, pid, startTicks, seconds, hundredths] = match;
  return {
    pid: Number(pid),
    startTicks: startTicks ?? "",
    uptimeMs: Number(seconds) * 1_000 + Number(hundredths) * 10,
  };
}

/** Empty for a line that was cut. */
export function parseRelayMarks(text: string): RelayMark[] {
  const match = relaysPattern.exec(text);
  if (match === null) return [];
  const [, out, outStart, err, errStart] = match;
  return [
    { pid: Number(out), startTicks: outStart ?? "" },
    { pid: Number(err), startTicks: errStart ?? "" },
  ];
}

/**
 * The shell's `jobs` line tells a signal from a code; a shell that gives none (bash as sh) leaves the POSIX convention
 * of 128 + signal, which cannot be told from a script that chose such a code itself.
 */
export function parseExitReport(text: string): ExitReport | undefined {
  const match = exitPattern.exec(text);
  if (match === null) return undefined;
  const [, code, seconds, hundredths, job = ""] = match;
  return { exit: exitOf(Number(code), job), uptimeMs: Number(seconds) * 1_000 + Number(hundredths) * 10 };
}

function exitOf(code: number, job: string): Exit {
  const done = /\bDone(?:\((\d+)\))?/.exec(job);
  if (done !== null) return { exitCode: Number(done[1] ?? 0), signal: null };
  if (/\bExit (\d+)/.test(job)) return { exitCode: Number(/\bExit (\d+)/.exec(job)?.[1]), signal: null };
  const named = job === "" ? undefined : Object.entries(texts).find(([text]) => job.includes(text))?.[1];
  const signal = named ?? signalNamed(code - 128);
  return code > 128 && signal !== undefined ? { exitCode: null, signal } : { exitCode: code, signal: null };
}

function signalNamed(number: number): string | undefined {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0];
}

/** strsignal(3) of glibc and musl in the C locale. The trap of the shim can make its code 143, so the text decides. */
const texts: Readonly<Record<string, string>> = {
  Killed: "SIGKILL",
  Terminated: "SIGTERM",
  Interrupt: "SIGINT",
  Hangup: "SIGHUP",
  Quit: "SIGQUIT",
  "Segmentation fault": "SIGSEGV",
  Aborted: "SIGABRT",
  "Illegal instruction": "SIGILL",
  "Bus error": "SIGBUS",
  "Floating point exception": "SIGFPE",
  "Broken pipe": "SIGPIPE",
  "Alarm clock": "SIGALRM",
  "User defined signal 1": "SIGUSR1",
  "User defined signal 2": "SIGUSR2",
};
