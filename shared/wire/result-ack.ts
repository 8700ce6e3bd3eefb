// The row is final and durable; the agent may forget the files. `unknown`: there is no such row, the agent keeps result and files.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { itemsOf } from "./fields.ts";

export const resultAckSchema = z.object({
  type: z.literal("result-ack"),
  items: itemsOf(z.object({ attempt: attemptIdSchema, verdict: z.enum(["acknowledged", "unknown"]) })),
});
export type ResultAck = z.infer<typeof resultAckSchema>;
