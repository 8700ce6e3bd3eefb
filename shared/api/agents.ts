// Agents as the API shows them. "Connected to at least one node" never hides a loss: `connection` says fully, partly or offline.
import { z } from "zod";
import { labelsSchema } from "../task.ts";
import { momentSchema } from "./moment.ts";
import { pageQuery } from "./page.ts";

export const agentStatuses = ["active", "revoked", "quarantined", "removed"] as const;

export const agentViewSchema = z.object({
  id: z.string(),
  name: z.string(),
  labels: labelsSchema,
  status: z.enum(agentStatuses),
  paused: z.boolean().describe("Keeps what runs and is offered nothing more"),
  slots: z
    .int()
    .nullable()
    .default(null)
    .describe("Scripts that run at once, as set here; null: the agent's own setting"),
  connection: z.enum(["fully", "partly", "offline"]),
  nodes: z.array(
    z.object({
      name: z.string(),
      state: z.enum(["connected", "missing"]),
      since: momentSchema.nullable(),
      roundTripMs: z.number().nullable().describe("Measured when it connected"),
      refusal: z
        .object({ reason: z.string(), at: momentSchema.nullable() })
        .nullable()
        .describe("Why this node refused it last, while it is missing there"),
    }),
  ),
  version: z.string().nullable(),
  host: z
    .object({
      hostname: z.string(),
      os: z.string(),
      arch: z.string(),
      executable: z
        .string()
        .optional()
        .describe("Version and begin of the SHA-256 of the single executable that runs, where one does"),
    })
    .nullable(),
  createdAt: momentSchema,
  lastSeenAt: momentSchema.nullable(),
});
export type AgentView = z.infer<typeof agentViewSchema>;

/** Most scripts an agent may be told to run at once. */
export const largestSlots = 1_000;

export const agentChangeSchema = z.strictObject({
  slots: z
    .int()
    .min(0)
    .max(largestSlots)
    .nullable()
    .describe("Scripts that run at once; 0 takes nothing new; null: the agent's own setting. What runs goes on"),
});
export type AgentChangeRequest = z.infer<typeof agentChangeSchema>;

export const agentListQuerySchema = z.object({
  ...pageQuery,
  on: z.string().max(16_384).optional().describe("Selector text"),
});
