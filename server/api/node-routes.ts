// Server nodes: list, show, drain, resume, cap, remove; and the cluster's pause. A node is named by its id or its name.
import { z } from "zod";
import {
  clusterViewSchema,
  drainRequestSchema,
  nodeChangeSchema,
  nodeListQuerySchema,
  nodeRemainsSchema,
  nodeViewSchema,
  type NodeView,
} from "../../shared/api/nodes.ts";
import { pageOf } from "../../shared/api/page.ts";
import { nodeIdSchema, type NodeId } from "../../shared/ids.ts";
import { principalOf } from "./authorize.ts";
import type { NodeBackend, NodeChange, Principal } from "./backend.ts";
import { found, page, pauseVerbs, type ApiInstance } from "./route.ts";

const params = z.object({ node: z.string().max(128).describe("Id, or a name that one node carries") });

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

  app.route({
    method: "GET",
    url: "/api/v1/nodes/:node",
    config: { permission: "nodes:read" },
    schema: { summary: "Read a node", tags: ["nodes"], params, response: { 200: nodeViewSchema } },
    handler: async ({ params: { node } }) => found(await nodes.findNode(node), "node.unknown", node),
  });

  app.route({
    method: "GET",
    url: "/api/v1/nodes/:node/remains",
    config: { permission: "nodes:read" },
    schema: {
      summary: "What a node still holds",
      description: "Agents connected to it and tasks that flow through it: a drained node is empty.",
      tags: ["nodes"],
      params,
      response: { 200: nodeRemainsSchema },
    },
    handler: async ({ params: { node } }) => nodes.readRemains(await idOf(node)),
  });

  app.route({
    method: "POST",
    url: "/api/v1/nodes/:node/drain",
    config: { permission: "nodes:write" },
    schema: {
      summary: "Drain a node",
      description:
        "It claims nothing more, is not ready any more, and asks its agents to use other nodes, spread over a few seconds. Scripts go on. Kept over restarts until it is resumed. Safe to repeat.",
      tags: ["nodes"],
      params,
      body: drainRequestSchema,
      response: { 200: nodeViewSchema },
    },
    handler: async (request) =>
      change(request.params.node, { drain: request.body.finish ? "finish" : "hand-over" }, principalOf(request)),
  });

  app.route({
    method: "POST",
    url: "/api/v1/nodes/:node/resume",
    config: { permission: "nodes:write" },
    schema: {
      summary: "Lift a node's drain",
      tags: ["nodes"],
      params,
      response: { 200: nodeViewSchema },
    },
    handler: async (request) => change(request.params.node, { drain: "none" }, principalOf(request)),
  });

  app.route({
    method: "PATCH",
    url: "/api/v1/nodes/:node",
    config: { permission: "nodes:write" },
    schema: {
      summary: "Set a node's task cap",
      description: "Holds at once; it bounds what the node takes, not the tasks that move to it.",
      tags: ["nodes"],
      params,
      body: nodeChangeSchema,
      response: { 200: nodeViewSchema },
    },
    handler: async (request) => change(request.params.node, request.body, principalOf(request)),
  });

  app.route({
    method: "DELETE",
    url: "/api/v1/nodes/:node",
    config: { permission: "nodes:write" },
    schema: {
      summary: "Remove a node",
      description:
        "For good: agents drop it from their list, and if it runs it hands over and ends. It comes back only by joining again.",
      tags: ["nodes"],
      params,
      response: { 200: nodeViewSchema },
    },
    handler: async (request) => {
      const { node } = request.params;
      return found(await nodes.removeNode(await idOf(node), principalOf(request)), "node.unknown", node);
    },
  });

  app.route({
    method: "GET",
    url: "/api/v1/cluster",
    config: { permission: "nodes:read" },
    schema: { summary: "Read the cluster", tags: ["nodes"], response: { 200: clusterViewSchema } },
    handler: async () => nodes.readCluster(),
  });

  for (const [verb, paused] of pauseVerbs) {
    app.route({
      method: "POST",
      url: `/api/v1/cluster/${verb}`,
      config: { permission: "nodes:write" },
      schema: {
        summary: paused ? "Pause the cluster: no node claims anything" : "Resume the cluster",
        description: "Answers when every live node acts by it; after 20 s the answer names those that do not.",
        tags: ["nodes"],
        response: { 200: clusterViewSchema },
      },
      handler: async (request) => nodes.setClusterPaused(paused, principalOf(request)),
    });
  }

  async function idOf(node: string): Promise<NodeId> {
    return nodeIdSchema.parse(found(await nodes.findNode(node), "node.unknown", node).id);
  }

  async function change(node: string, to: NodeChange, by: Principal): Promise<NodeView> {
    return found(await nodes.setNode(await idOf(node), to, by), "node.unknown", node);
  }
}
