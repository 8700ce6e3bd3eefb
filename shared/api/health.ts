// `/healthz` says the process lives; `/readyz` says whether to send it users: 503 while draining or without its database.
import { z } from "zod";

export const healthSchema = z.object({ status: z.literal("alive"), version: z.string() });
export type Health = z.infer<typeof healthSchema>;

export const readinessSchema = z.object({
  ready: z.boolean(),
  draining: z.boolean(),
  database: z.enum(["reachable", "unreachable"]),
  node: z.string(),
  version: z.string(),
});
export type Readiness = z.infer<typeof readinessSchema>;
