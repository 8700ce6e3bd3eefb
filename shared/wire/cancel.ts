// End these attempts. Repeated by every node with a session until the agent's result confirms it.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { count, itemsOf } from "./fields.ts";

export const cancelItemSchema = z.object({
  attempt: attemptIdSchema,
  graceMs: count,
  /** A person gave it up: what cannot be killed of it holds neither slot nor lock any more. */
  abandoned: z.boolean().optional(),
});
export type CancelItem = z.infer<typeof cancelItemSchema>;

export const cancelSchema = z.object({ type: z.literal("cancel"), items: itemsOf(cancelItemSchema) });
export type Cancel = z.infer<typeof cancelSchema>;
