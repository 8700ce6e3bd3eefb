// The end of an attempt as the agent's journal holds it; resends are equal in every field but the home number.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { outputVariablesSchema } from "../output-variables.ts";
import { outcomes } from "../task.ts";
import { count, digestHex, itemsOf, ordinal, text } from "./fields.ts";

const streamEndSchema = z.object({ length: count, sha256: digestHex });

export const resultRecordSchema = z.object({
  outcome: z.enum(outcomes),
  /** Such as `exit-code`, `signal`, `time-limit`, `host-reboot`, `kill-incomplete`, `output-lost`; empty when nothing is to be added. */
  reason: text,
  /** The script's own code; null when it ended by a signal or never ended by itself. */
  exitCode: z.int().min(0).max(255).nullable(),
  signal: z.string().max(32).nullable(),
  /** Agent's wall clock; null when the script never started. */
  startedAtMs: count.nullable(),
  finishedAtMs: count,
  /** Milliseconds by the agent's monotonic clock. */
  durationMs: count,
  out: streamEndSchema,
  err: streamEndSchema,
  /** Named values that the script set; missing when there are none, and from agents that know of none. */
  outputs: outputVariablesSchema.optional(),
});
export type ResultRecord = z.infer<typeof resultRecordSchema>;

export const resultItemSchema = z.object({ attempt: attemptIdSchema, homeNo: ordinal, record: resultRecordSchema });
export type ResultItem = z.infer<typeof resultItemSchema>;

export const resultSchema = z.object({ type: z.literal("result"), items: itemsOf(resultItemSchema) });
export type Result = z.infer<typeof resultSchema>;
