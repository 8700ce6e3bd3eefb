// What do you know of these attempts? Sent after the row was read; answered by `state`, or by `result` for finished ones.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { itemsOf } from "./fields.ts";

export const inquireSchema = z.object({ type: z.literal("inquire"), items: itemsOf(attemptIdSchema) });
export type Inquire = z.infer<typeof inquireSchema>;
