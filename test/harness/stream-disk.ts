// What one output stream of an attempt takes of the agent's disk, and the most it ever may.
import { statSync } from "node:fs";
import type { SpoolBounds } from "../../agent/segments.ts";
import { listSegments, segmentPath } from "../../agent/segments.ts";

/** Bytes that the file system really holds for the stream at `path` (`<attempt>/out`). */
export function streamBlockBytes(path: string): number {
  return listSegments(path).reduce(
    (sum, start) => sum + (statSync(segmentPath(path, start), { throwIfNoEntry: false })?.blocks ?? 0) * 512,
    0,
  );
}

export function streamMostBytes({ headBytes, tailBytes, segmentBytes }: SpoolBounds): number {
  return headBytes + tailBytes + 6 * segmentBytes;
}
