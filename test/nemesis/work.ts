// What the load asks agents to do, by the seed. Half are no-ops, which cross the courier's whole path at a tenth of the cost;
// most scripts are over at once, and the rest last long enough to be cancelled, timed out and overtaken by faults.
import { countingScript } from "../harness/script-truth.ts";
import type { Work } from "./history.ts";

const beatSeconds = 0.25;
/** Far beyond any time limit and any cancel of this load. */
const endlessBeats = 160;

export function drawWork(unit: () => number): Work {
  const exitCode = unit() < 0.7 ? 0 : 1 + Math.floor(unit() * 40);
  const repeat = unit() < 0.15 ? "twice" : "once";
  const chance = unit();
  const counts = { count: 1 + Math.floor(unit() * 20), exitCode, repeat } as const;
  const endless = { ...counts, count: endlessBeats };
  if (chance < 0.5) return { kind: "no-op", count: 0, exitCode: null, repeat };
  if (chance < 0.82) return { kind: "counted", pace: "at once", ...counts };
  if (chance < 0.9) return { kind: "counted", pace: "slow", ...counts };
  return chance < 0.95
    ? { kind: "cancelled", ...endless, afterMs: Math.floor(unit() * 2_500) }
    : { kind: "timed-out", ...endless, timeoutMs: 1_000 + Math.floor(unit() * 1_500) };
}

/** Its script appends to the file of this name what it does. */
export function specOf(work: Work, truth: string) {
  if (work.kind === "no-op") return { kind: "no-op" } as const;
  const pauseSeconds = work.kind === "counted" && work.pace === "at once" ? 0 : beatSeconds;
  const { count, exitCode } = work;
  return {
    kind: "script" as const,
    script: countingScript(truth, { count, pauseSeconds, exitCode: exitCode ?? 0, beats: "written" }),
    graceMs: 2_000,
    ...(work.kind === "timed-out" ? { timeoutMs: work.timeoutMs } : {}),
  };
}
