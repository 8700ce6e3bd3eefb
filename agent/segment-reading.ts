// Reads bytes of a stream from its segments, each through a descriptor of its own: one that is shared could be closed, and
// be another file, before the thread pool reads it. Stops where a byte is gone; knows neither sizes nor omissions.
import { closeSync, openSync, read, readSync } from "node:fs";
import { errnoOf } from "../shared/errors.ts";
import { listSegments, segmentPath } from "./segments.ts";

/** `one`: from one segment, so perhaps fewer than there are. `all`: on into its successors. */
export async function readSegments(
  streamPath: string,
  offset: number,
  count: number,
  how: "one" | "all",
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = Buffer.allocUnsafe(count);
  let filled = 0;
  while (filled < count) {
    const segment = openAt(streamPath, offset + filled);
    if (segment === undefined) break;
    try {
      const got = await readAt(segment.descriptor, bytes.subarray(filled), offset + filled - segment.start);
      if (got === 0) break;
      filled += got;
    } finally {
      closeSync(segment.descriptor);
    }
    if (how === "one") break;
  }
  return bytes.subarray(0, filled);
}

/** All there is, at once: for a few bytes that were written a moment ago. */
export function readSegmentsSync(streamPath: string, offset: number, count: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(count);
  let filled = 0;
  while (filled < count) {
    const segment = openAt(streamPath, offset + filled);
    if (segment === undefined) break;
    try {
      const got = readSync(segment.descriptor, bytes, filled, count - filled, offset + filled - segment.start);
      if (got === 0) break;
      filled += got;
    } finally {
      closeSync(segment.descriptor);
    }
  }
  return bytes.subarray(0, filled);
}

export function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return undefined;
    throw cause;
  }
}

function openAt(
  streamPath: string,
  offset: number,
): { readonly start: number; readonly descriptor: number } | undefined {
  const start = listSegments(streamPath).findLast((candidate) => candidate <= offset);
  const descriptor = start === undefined ? undefined : openIfThere(segmentPath(streamPath, start));
  return start === undefined || descriptor === undefined ? undefined : { start, descriptor };
}

function readAt(descriptor: number, into: Uint8Array, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, into, 0, into.length, offset, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}
