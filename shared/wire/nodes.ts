// The versioned list of joined nodes. Lower versions are ignored; a stale or empty list never drops a working connection.
import { z } from "zod";
import { nodeIdSchema } from "../ids.ts";
import { nameSchema } from "../task.ts";
import { count } from "./fields.ts";

/** `host:port`, `[v6]:port`; a node may advertise several. */
export const addressSchema = z
  .string()
  .max(260)
  .regex(/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}$/, "expected host:port")
  .refine(isDialable, "no such address");

/** What a dial would accept: 10.0.0.256 has the form of an address and is none. */
function isDialable(address: string): boolean {
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  return port >= 1 && port <= 65_535 && URL.canParse(`wss://${address}`);
}

export const listedNodeSchema = z.object({
  id: nodeIdSchema,
  name: nameSchema,
  addresses: z.array(addressSchema).min(1).max(16),
});
export type ListedNode = z.infer<typeof listedNodeSchema>;

export const nodeListSchema = z.object({
  /** Database timeline × 2³² + n: grows over failovers too. */
  version: count,
  /** How many of the nodes the agent should hold a session with; 0 = all. */
  want: count,
  nodes: z.array(listedNodeSchema).max(256),
});
export type NodeList = z.infer<typeof nodeListSchema>;

export const nodesSchema = z.object({ type: z.literal("nodes"), ...nodeListSchema.shape });
export type Nodes = z.infer<typeof nodesSchema>;
