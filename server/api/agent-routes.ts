// Agents: list, show, set, revoke, remove, and who holds their locks. An agent is named by its name or its id.
import { z } from "zod";
import { agentChangeSchema, agentListQuerySchema, agentViewSchema } from "../../shared/api/agents.ts";
import { agentLocksSchema } from "../../shared/api/locks.ts";
import { pageOf } from "../../shared/api/page.ts";
import { parseSelector } from "../../shared/api/selector.ts";
import { agentIdSchema } from "../../shared/ids.ts";
import { principalOf } from "./authorize.ts";
import type { AgentBackend } from "./backend.ts";
import { found, page, pauseVerbs, type ApiInstance } from "./route.ts";

const params = z.object({ agent: z.string().max(128).describe("Name or id") });

export function addAgentRoutes(app: ApiInstance, agents: AgentBackend): void {
  app.route({
    method: "GET",
    url: "/api/v1/agents",
    config: { permission: "agents:read" },
    schema: {
      summary: "List agents, newest first",
      tags: ["agents"],
      querystring: agentListQuerySchema,
      response: { 200: pageOf(agentViewSchema) },
    },
    handler: async ({ query }) => {
      const selector = query.on === undefined ? undefined : parseSelector(query.on);
      return page(query, agentIdSchema, (wanted) => agents.listAgents({ ...wanted, selector }));
    },
  });

  app.route({
    method: "GET",
    url: "/api/v1/agents/:agent",
    config: { permission: "agents:read" },
    schema: { summary: "Read an agent", tags: ["agents"], params, response: { 200: agentViewSchema } },
    handler: async ({ params: { agent } }) => found(await agents.findAgent(agent), "agent.unknown", agent),
  });

  app.route({
    method: "GET",
    url: "/api/v1/agents/:agent/locks",
    config: { permission: "agents:read" },
    schema: {
      summary: "Read an agent's isolation locks: who holds them, since when, and who waits",
      tags: ["agents"],
      params,
      response: { 200: agentLocksSchema },
    },
    handler: async ({ params: { agent } }) => found(await agents.readLocks(agent), "agent.unknown", agent),
  });

  app.route({
    method: "PATCH",
    url: "/api/v1/agents/:agent",
    config: { permission: "agents:write" },
    schema: {
      summary: "Set how many scripts an agent runs at once",
      description:
        "Holds at once, also while it runs more; an agent without a session hears of it when it connects. Agents of before isolation keep their own setting.",
      tags: ["agents"],
      params,
      body: agentChangeSchema,
      response: { 200: agentViewSchema },
    },
    handler: async (request) => {
      const { agent } = request.params;
      return found(await agents.setAgent(agent, request.body, principalOf(request)), "agent.unknown", agent);
    },
  });

  app.route({
    method: "POST",
    url: "/api/v1/agents/:agent/revoke",
    config: { permission: "agents:write" },
    schema: {
      summary: "Revoke an agent",
      description: "Its certificate is refused from now on and its sockets are closed on every node. Safe to repeat.",
      tags: ["agents"],
      params,
      response: { 200: agentViewSchema },
    },
    handler: async (request) => {
      const { agent } = request.params;
      return found(await agents.revokeAgent(agent, principalOf(request)), "agent.unknown", agent);
    },
  });

  for (const [verb, paused] of pauseVerbs) {
    app.route({
      method: "POST",
      url: `/api/v1/agents/:agent/${verb}`,
      config: { permission: "agents:write" },
      schema: {
        summary: paused ? "Pause an agent: it keeps what runs and is offered nothing more" : "Resume an agent",
        description: "Safe to repeat.",
        tags: ["agents"],
        params,
        response: { 200: agentViewSchema },
      },
      handler: async (request) => {
        const { agent } = request.params;
        return found(await agents.setAgentPaused(agent, paused, principalOf(request)), "agent.unknown", agent);
      },
    });
  }

  app.route({
    method: "DELETE",
    url: "/api/v1/agents/:agent",
    config: { permission: "agents:write" },
    schema: {
      summary: "Remove an agent",
      description:
        "For good: its certificates are refused and its sockets closed on every node, its queued tasks are cancelled, those it may have started are `lost: agent-removed` and may still run. Its name may be enrolled again, as a new agent. The answer shows it as removed; asked again, it is `agent.unknown`.",
      tags: ["agents"],
      params,
      response: { 200: agentViewSchema },
    },
    handler: async (request) => {
      const { agent } = request.params;
      return found(await agents.removeAgent(agent, principalOf(request)), "agent.unknown", agent);
    },
  });
}
