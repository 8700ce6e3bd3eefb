// The poll. Credit is cumulative per session since its greeting, like a stream limit: the node may have offered
// at most `work` (and `system`) attempts in this session altogether, so a ready cannot race an offer in flight.
import { z } from "zod";
import { count } from "./fields.ts";

export const readySchema = z.object({ type: z.literal("ready"), work: count, system: count });
export type Ready = z.infer<typeof readySchema>;
