// The attempt is in the agent's journal, synced. This session is its home number 1.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { itemsOf, ordinal } from "./fields.ts";

export const acceptItemSchema = z.object({ attempt: attemptIdSchema, offerNo: ordinal, homeNo: ordinal });
export type AcceptItem = z.infer<typeof acceptItemSchema>;

export const acceptSchema = z.object({ type: z.literal("accept"), items: itemsOf(acceptItemSchema) });
export type Accept = z.infer<typeof acceptSchema>;
