// The files that hold one output stream of an attempt: `out.0`, `out.4194304`, … each named by the offset of its first
// byte. The shim's relay writes them and removes those between head and tail; here they are only named and listed.
// Invariant: what lies between the end of one segment and the start of the next was omitted, whoever looks and whenever.
import { readdirSync } from "node:fs";
import { basename, dirname } from "node:path";
import { errnoOf } from "../shared/errors.ts";

/**
 * Bounds of one stream on the target's disk. A segment is closed once it has `segmentBytes` and holds less than twice
 * that, so a stream takes at most `headBytes + tailBytes + 6 × segmentBytes`: 88 MiB by default.
 */
export interface SpoolBounds {
  /** Segments that begin below this are always kept. Default 16 MiB. */
  readonly headBytes: number;
  /** At least this much of the end is always kept. Default 48 MiB. */
  readonly tailBytes: number;
  /** Default 4 MiB; a multiple of 16 KiB. */
  readonly segmentBytes: number;
}

const mebi = 1024 * 1024;

export const defaultSpoolBounds: SpoolBounds = { headBytes: 16 * mebi, tailBytes: 48 * mebi, segmentBytes: 4 * mebi };

export function segmentPath(streamPath: string, start: number): string {
  return `${streamPath}.${start}`;
}

/** Starts of the segments that are there, ascending; empty when the folder is gone. */
export function listSegments(streamPath: string): number[] {
  const prefix = `${basename(streamPath)}.`;
  try {
    return readdirSync(dirname(streamPath))
      .filter((name) => name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length)))
      .map((name) => Number(name.slice(prefix.length)))
      .toSorted((a, b) => a - b);
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return [];
    throw cause;
  }
}
