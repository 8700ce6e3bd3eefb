// Stored up to `offset`; the agent may send up to `offset + window`. `resume-from` in addition tells it to go back (or on) to `offset`.
import { z } from "zod";
import { count, logPosition, ordinal } from "./fields.ts";

export const logAckSchema = z.object({ type: z.literal("log-ack"), ...logPosition, window: count });
export type LogAck = z.infer<typeof logAckSchema>;

export const resumeFromSchema = z.object({
  type: z.literal("resume-from"),
  ...logPosition,
  window: count,
  /** The home number the row holds; when it is greater than the agent's own, another session is the home. */
  homeNo: ordinal,
});
export type ResumeFrom = z.infer<typeof resumeFromSchema>;
