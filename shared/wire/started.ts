// The script runs. Times are the agent's wall clock, for display only.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { count, itemsOf, ordinal } from "./fields.ts";

export const startedItemSchema = z.object({ attempt: attemptIdSchema, homeNo: ordinal, startedAtMs: count });
export type StartedItem = z.infer<typeof startedItemSchema>;

export const startedSchema = z.object({ type: z.literal("started"), items: itemsOf(startedItemSchema) });
export type Started = z.infer<typeof startedSchema>;
