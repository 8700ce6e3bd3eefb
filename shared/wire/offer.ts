// A node offers attempts to the journal named; it lives and dies with the session. Answered by accept, refuse or state.
import { z } from "zod";
import { attemptIdSchema, journalIdSchema, taskIdSchema } from "../ids.ts";
import { secretsSchema } from "../secret.ts";
import { laneSchema, taskSpecSchema } from "../task.ts";
import { count, itemsOf, ordinal } from "./fields.ts";

export const offerItemSchema = z.object({
  attempt: attemptIdSchema,
  task: taskIdSchema,
  attemptNumber: z.int().min(1),
  offerNo: ordinal.min(1),
  journalId: journalIdSchema,
  lane: laneSchema,
  /** Milliseconds from receipt (boot time, suspend included) within which the attempt may still be accepted. */
  startWindowMs: count,
  spec: taskSpecSchema,
  /** Only to an agent whose hello names the capability `secrets`. Never part of the spec, never logged. */
  secrets: secretsSchema.optional(),
});
export type OfferItem = z.infer<typeof offerItemSchema>;

export const offerSchema = z.object({ type: z.literal("offer"), items: itemsOf(offerItemSchema) });
export type Offer = z.infer<typeof offerSchema>;
