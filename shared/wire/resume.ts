// The agent moves attempts' homes to this session. The number grows by one with each move; a superseded home's writes change no row.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { itemsOf, ordinal } from "./fields.ts";

export const resumeItemSchema = z.object({ attempt: attemptIdSchema, homeNo: ordinal });
export type ResumeItem = z.infer<typeof resumeItemSchema>;

export const resumeSchema = z.object({ type: z.literal("resume"), items: itemsOf(resumeItemSchema) });
export type Resume = z.infer<typeof resumeSchema>;
