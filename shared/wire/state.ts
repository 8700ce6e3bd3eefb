// What the agent knows of attempts: the answer to a repeated offer and to `inquire`. Only `unknown` here makes an attempt lost.
import { z } from "zod";
import { attemptReportSchema } from "./attempt-report.ts";
import { itemsOf } from "./fields.ts";

export const stateSchema = z.object({ type: z.literal("state"), items: itemsOf(attemptReportSchema) });
export type State = z.infer<typeof stateSchema>;
