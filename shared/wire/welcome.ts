// A node's answer to an admitted hello: the session exists from here on.
// Verdicts answer the attempts of the hello: keep (go on), cancel, acknowledged (result stored, files may go), unknown (no such row).
import { z } from "zod";
import { attemptIdSchema, nodeIdSchema } from "../ids.ts";
import { count, text } from "./fields.ts";
import { nodeListSchema } from "./nodes.ts";

export const verdictSchema = z.enum(["keep", "cancel", "acknowledged", "unknown"]);
export type Verdict = z.infer<typeof verdictSchema>;

export const timingsSchema = z.object({
  /** The agent pings after this much sending silence. */
  pingMs: count,
  /** Either side ends the session after this much receiving silence. */
  silenceMs: count,
});
export type Timings = z.infer<typeof timingsSchema>;
export const defaultTimings: Timings = { pingMs: 10_000, silenceMs: 25_000 };

/** Words of `capabilities` that an agent acts by. `progress`: takes `progress`. */
export const nodeCapability = { progress: "progress" } as const;

export const welcomeSchema = z.object({
  type: z.literal("welcome"),
  protocol: count,
  node: z.object({ id: nodeIdSchema, name: text }),
  timings: timingsSchema,
  verdicts: z.array(z.object({ attempt: attemptIdSchema, verdict: verdictSchema })).max(1_000),
  nodes: nodeListSchema,
  /** The node's clock as it answered, in milliseconds since 1970; only a probe is told, and nothing rests on it. */
  wallMs: count.optional(),
  /** As in `settings`. */
  slots: count.nullable().optional(),
  /** What the node understands beyond what every version does. A node that says nothing understands nothing more. */
  capabilities: z.array(text).max(64).optional(),
});
export type Welcome = z.infer<typeof welcomeSchema>;
