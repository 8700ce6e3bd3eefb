// Server nodes: list.
import { nodeListQuerySchema, nodeViewSchema } from "../../shared/api/nodes.ts";
import { pageOf } from "../../shared/api/page.ts";
import { nodeIdSchema } from "../../shared/ids.ts";
import type { NodeBackend } from "./backend.ts";
import { page, type ApiInstance } from "./route.ts";

export function addNodeRoutes(app: ApiInstance, nodes: NodeBackend): void {
  app.route({
    method: "GET",
    url: "/api/v1/nodes",
    config: { permission: "nodes:read" },
    schema: {
      summary: "List server nodes, newest first",
      tags: ["nodes"],
      querystring: nodeListQuerySchema,
      response: { 200: pageOf(nodeViewSchema) },
    },
    handler: async ({ query }) => page(query, nodeIdSchema, (wanted) => nodes.listNodes(wanted)),
  });
}
