// What people have set for this agent: told at once to agents with the capability `slots`; `welcome` says the same.
import { z } from "zod";
import { count } from "./fields.ts";

export const settingsSchema = z.object({
  type: z.literal("settings"),
  /** Scripts that run at once in the work lane; fewer than run now ends none. Nil: the agent's own setting. */
  slots: count.nullable(),
});
export type Settings = z.infer<typeof settingsSchema>;
