// How far running scripts say they are, newest only. Not journaled and not answered: a lost one is no loss, for the next
// home is told the newest again. Only to a node whose welcome names the capability `progress`.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { progressLimits, progressPercent } from "../progress-line.ts";
import { itemsOf, ordinal } from "./fields.ts";

export const progressItemSchema = z.object({
  attempt: attemptIdSchema,
  homeNo: ordinal,
  percent: progressPercent,
  /** A code point takes up to two UTF-16 units. */
  message: z.string().max(2 * progressLimits.messageCharacters),
});
export type ProgressItem = z.infer<typeof progressItemSchema>;

export const progressSchema = z.object({ type: z.literal("progress"), items: itemsOf(progressItemSchema) });
