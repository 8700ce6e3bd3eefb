// How an agent reports one attempt it knows: in `hello` for every open one, and in `state` as the answer to an offer or an `inquire`.
//   accepted    in the journal, not started (waits for a slot)
//   running     started; the script or its tree may still be alive
//   finished    its result is in the journal and not yet acknowledged
//   collected   finished and acknowledged earlier; the journal keeps only its id
//   unknown     not in this journal: it was never accepted here
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { ordinal } from "./fields.ts";

export const attemptReportSchema = z.object({
  attempt: attemptIdSchema,
  state: z.enum(["accepted", "running", "finished", "collected", "unknown"]),
  homeNo: ordinal,
  /** True when this attempt's log and result flow through the session that carries the report. */
  homeHere: z.boolean(),
});
export type AttemptReport = z.infer<typeof attemptReportSchema>;
