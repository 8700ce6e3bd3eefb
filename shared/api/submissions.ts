// One request that becomes 1 to 1,000 tasks, once: either one spec for every agent a selector means, or a list of
// independent tasks. The header `Idempotency-Key` (unique per principal) makes sending it again safe.
import { z } from "zod";
import { secretsSchema } from "../secret.ts";
import { laneSchema, limits, nameSchema, runSpecSchema, taskStates } from "../task.ts";
import { momentSchema } from "./moment.ts";
import { targetSchema } from "./selector.ts";

/** One second to 30 days. */
export const queueTimeoutBounds = { leastMs: 1_000, mostMs: limits.queueMs } as const;

const terms = {
  queueTimeoutMs: z
    .int()
    .min(queueTimeoutBounds.leastMs)
    .max(queueTimeoutBounds.mostMs)
    .optional()
    .describe("Expires while still queued after this long; default 24 h"),
  unreachableLimitMs: z
    .int()
    .min(0)
    .max(limits.queueMs)
    .optional()
    .describe("Lost when its agent had no session for this long after the offer; 0 = never; default 24 h"),
  ifOffline: z
    .enum(["queue", "refuse"])
    .optional()
    .describe("`refuse`: answered 409 `agent.offline`, and nothing is stored, when an agent has no live session"),
  priority: z
    .enum(["normal", "high"])
    .optional()
    .describe("high: before the agent's other queued tasks; default normal"),
  lane: laneSchema.optional().describe("Credit lane; default work"),
};

const secrets = secretsSchema
  .optional()
  .describe("Reach the script and nothing else: kept encrypted, never shown, masked in the output");

export const runRequestSchema = z.strictObject({ on: targetSchema, spec: runSpecSchema, secrets, ...terms });
export type RunRequest = z.infer<typeof runRequestSchema>;

export const batchItemSchema = z.strictObject({
  on: nameSchema.describe("One agent: name or id"),
  spec: runSpecSchema,
  secrets,
});
export const batchRequestSchema = z.strictObject({
  tasks: z.array(batchItemSchema).min(1).max(limits.tasksPerSubmission),
  ...terms,
});
export type BatchRequest = z.infer<typeof batchRequestSchema>;

export const submitRequestSchema = z.union([runRequestSchema, batchRequestSchema]);
/** As the server sees it, defaults filled in. */
export type SubmitRequest = z.output<typeof submitRequestSchema>;
/** As a client writes it. */
export type SubmitInput = z.input<typeof submitRequestSchema>;

export const idempotencyKeySchema = z
  .string()
  .max(limits.idempotencyKeyChars)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "letters, digits, dot, underscore and dash, starting with a letter or digit");

export const submitAnswerSchema = z.object({
  id: z.string(),
  tasks: z.array(z.object({ id: z.string(), agent: z.string().describe("Name") })),
  repeated: z.boolean().describe("True when this key had been answered before and nothing new was made"),
});
export type SubmitAnswer = z.infer<typeof submitAnswerSchema>;

export const submissionViewSchema = z.object({
  id: z.string(),
  createdAt: momentSchema,
  createdBy: z.string().describe("Name of the API key"),
  address: z.string().describe("Client address"),
  tasks: z.array(z.object({ id: z.string(), agent: z.string(), state: z.enum(taskStates) })),
});
export type SubmissionView = z.infer<typeof submissionViewSchema>;
