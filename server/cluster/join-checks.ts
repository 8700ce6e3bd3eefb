// Whether this process may join the cluster as it is: its version beside the live nodes' and its clock beside the
// database's. The database itself (version, not in recovery, schema) and the master key are judged where they are opened.
// Pure but for the clock readings it is given.
import { AppError } from "../../shared/errors.ts";

/** DESIGN promise 9 makes no clock matter for safety; certificates, times shown to people and logs still want them near. */
export const largestClockGapMs = 2_000;

export interface ClockSample {
  readonly sentMs: number;
  readonly databaseMs: number;
  readonly receivedMs: number;
}

/**
 * Throws `node.clock` when the machine's clock and the database's differ by more than 2 s, whatever part of the best
 * sample's way took how long.
 */
export function judgeClock(samples: readonly ClockSample[]): void {
  const [best] = samples.toSorted((a, b) => a.receivedMs - a.sentMs - (b.receivedMs - b.sentMs));
  if (best === undefined) return;
  const gapMs = (best.sentMs + best.receivedMs) / 2 - best.databaseMs;
  const uncertainMs = (best.receivedMs - best.sentMs) / 2;
  if (Math.abs(gapMs) - uncertainMs <= largestClockGapMs) return;
  const seconds = Math.abs(gapMs / 1_000).toFixed(1);
  throw new AppError(
    "node.clock",
    `this machine's clock is ${seconds} s ${gapMs > 0 ? "ahead of" : "behind"} the database's; at most ${largestClockGapMs / 1_000} s are accepted`,
  );
}

/** Throws `node.version` when a live node runs another major version, or a minor one more than one away. */
export function judgeVersion(
  version: string,
  others: readonly { readonly name: string; readonly version: string }[],
): void {
  const own = partsOf(version);
  for (const other of others) {
    const its = partsOf(other.version);
    if (own === undefined || its === undefined) continue;
    if (own.major === its.major && Math.abs(own.minor - its.minor) <= 1) continue;
    throw new AppError(
      "node.version",
      `this is version ${version}, node ${other.name} runs ${other.version}: nodes of one cluster are at most one minor version apart`,
    );
  }
}

function partsOf(version: string): { readonly major: number; readonly minor: number } | undefined {
  const found = /^(\d+)\.(\d+)\./.exec(version);
  return found === null ? undefined : { major: Number(found[1]), minor: Number(found[2]) };
}
