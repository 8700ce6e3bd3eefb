// Server nodes and the cluster as the API shows them, and what people may set.
import { z } from "zod";
import { momentSchema } from "./moment.ts";
import { pageQuery } from "./page.ts";

/** Most tasks a node may be given; a courier's task is light. */
export const largestTaskCap = 100_000;

export const nodeViewSchema = z.object({
  id: z.string(),
  name: z.string(),
  state: z.enum(["live", "dead", "removed"]),
  addresses: z.array(z.string()).describe("host:port agents dial"),
  version: z.string(),
  draining: z.boolean().describe("Takes nothing new: it was asked to drain, or it is stopping"),
  drain: z.enum(["none", "hand-over", "finish"]).describe("What was asked for; survives a restart until it is lifted"),
  taskCap: z.int().describe("Most tasks at once; 0 serves users only"),
  active: z.int().describe("Offers without an answer and tasks whose log and result flow through it, as it last said"),
  heartbeatAt: momentSchema.nullable(),
  sessions: z.int().describe("Agents connected to it"),
});
export type NodeView = z.infer<typeof nodeViewSchema>;

export const nodeListQuerySchema = z.object(pageQuery);

export const drainRequestSchema = z.strictObject({
  finish: z.boolean().default(false).describe("Keep the tasks that flow through it until they are done"),
});
export type DrainRequest = z.input<typeof drainRequestSchema>;

export const nodeChangeSchema = z.strictObject({
  taskCap: z.int().min(0).max(largestTaskCap).describe("Most tasks at once; 0 serves users only"),
});
export type NodeChangeRequest = z.infer<typeof nodeChangeSchema>;

/** What a draining node still holds; at most 100 of each are named. */
export const nodeRemainsSchema = z.object({
  /** True when it holds nothing: it may be stopped without anybody noticing. */
  empty: z.boolean(),
  sessions: z.int(),
  active: z.int(),
  agents: z.array(z.string()).describe("Names of agents connected to it"),
  tasks: z.array(z.object({ id: z.string(), agent: z.string() })).describe("Tasks that flow through it"),
});
export type NodeRemains = z.infer<typeof nodeRemainsSchema>;

export const clusterViewSchema = z.object({
  id: z.string(),
  name: z.string(),
  paused: z.boolean(),
  behind: z.array(z.string()).describe("Live nodes that do not act by this, or by their own drain and task cap, yet"),
});
export type ClusterView = z.infer<typeof clusterViewSchema>;
