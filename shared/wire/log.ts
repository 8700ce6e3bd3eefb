// One piece of one stream, in order. Offsets count bytes produced; `omitted` says that many bytes were dropped on the agent.
import { z } from "zod";
import { bytes, count, logFrameBytes, logPosition } from "./fields.ts";

export const logSchema = z.object({
  type: z.literal("log"),
  ...logPosition,
  homeNo: count,
  content: z.union([
    z.object({ bytes: bytes.refine((value) => value.length > 0 && value.length <= logFrameBytes, "1 byte to 64 KiB") }),
    z.object({ omitted: z.int().min(1) }),
  ]),
});
export type Log = z.infer<typeof logSchema>;
export type LogContent = Log["content"];

/** How far a piece moves its stream's offset. */
export function lengthOf(content: LogContent): number {
  return "bytes" in content ? content.bytes.length : content.omitted;
}
