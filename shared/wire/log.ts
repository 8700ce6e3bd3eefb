// One piece of one stream, in order. Offsets count bytes produced; `omitted` says that many bytes were dropped on the agent.
// `atMs` is when the agent saw the first of them, by its calendar: for people, and nothing is decided by it.
import { z } from "zod";
import { bytes, logFrameBytes, logPosition, ordinal } from "./fields.ts";

/** Up to the year 2100: what a database and a date can hold. */
const latestMs = 4_102_444_800_000;
const atMs = z.int().min(0).max(latestMs).optional();

/** As a frame may carry it; undefined for what a clock that is far off says: a log must not wait until that is set. */
export function seenAt(wallMs: number | undefined): number | undefined {
  const rounded = Math.round(wallMs ?? Number.NaN);
  return rounded >= 0 && rounded <= latestMs ? rounded : undefined;
}

export const logSchema = z.object({
  type: z.literal("log"),
  ...logPosition,
  homeNo: ordinal,
  content: z.union([
    z.object({
      bytes: bytes.refine((value) => value.length > 0 && value.length <= logFrameBytes, "1 byte to 64 KiB"),
      atMs,
    }),
    z.object({ omitted: z.int().min(1), atMs }),
  ]),
});
export type Log = z.infer<typeof logSchema>;
export type LogContent = Log["content"];

/** How far a piece moves its stream's offset. */
export function lengthOf(content: LogContent): number {
  return "bytes" in content ? content.bytes.length : content.omitted;
}
