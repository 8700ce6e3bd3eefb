// End these attempts. Repeated by every node with a session until the agent's result confirms it.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { count, itemsOf } from "./fields.ts";

export const cancelItemSchema = z.object({ attempt: attemptIdSchema, graceMs: count });
export type CancelItem = z.infer<typeof cancelItemSchema>;

export const cancelSchema = z.object({ type: z.literal("cancel"), items: itemsOf(cancelItemSchema) });
export type Cancel = z.infer<typeof cancelSchema>;
