// Server nodes as the API shows them.
import { z } from "zod";
import { momentSchema } from "./moment.ts";
import { pageQuery } from "./page.ts";

export const nodeViewSchema = z.object({
  id: z.string(),
  name: z.string(),
  state: z.enum(["live", "dead", "removed"]),
  addresses: z.array(z.string()).describe("host:port agents dial"),
  version: z.string(),
  draining: z.boolean(),
  heartbeatAt: momentSchema.nullable(),
  sessions: z.int().describe("Agents connected to it"),
});
export type NodeView = z.infer<typeof nodeViewSchema>;

export const nodeListQuerySchema = z.object(pageQuery);
