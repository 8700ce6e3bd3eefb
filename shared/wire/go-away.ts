// Use other nodes: the agent moves homes and credit away and closes once another session without go-away is greeted.
// Ignored while every session carries one.
import { z } from "zod";
import { count, text } from "./fields.ts";

export const goAwaySchema = z.object({ type: z.literal("go-away"), afterMs: count, reason: text });
export type GoAway = z.infer<typeof goAwaySchema>;
