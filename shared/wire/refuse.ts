// The agent does not take the offer. `later` is not final: the row returns to the queue. `never` is final, its tombstone synced first.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { itemsOf, ordinal, text } from "./fields.ts";

export const laterReasons = ["busy", "disk-full", "window-passed", "stopping", "other-journal"] as const;
export const neverReasons = ["policy", "unsupported", "invalid", "interpreter-missing"] as const;

const common = { attempt: attemptIdSchema, offerNo: ordinal, detail: text.optional() };
export const refuseItemSchema = z.discriminatedUnion("class", [
  z.object({ ...common, class: z.literal("later"), reason: z.enum(laterReasons) }),
  z.object({ ...common, class: z.literal("never"), reason: z.enum(neverReasons) }),
]);
export type RefuseItem = z.infer<typeof refuseItemSchema>;

export const refuseSchema = z.object({ type: z.literal("refuse"), items: itemsOf(refuseItemSchema) });
export type Refuse = z.infer<typeof refuseSchema>;
