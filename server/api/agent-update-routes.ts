// Asking agents to update themselves. A permission of its own kind: who may only run tasks may not replace executables.
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { agentUpdateSchema } from "../../shared/api/agent-updates.ts";
import { idempotencyKeySchema, submitAnswerSchema } from "../../shared/api/submissions.ts";
import { principalOf } from "./authorize.ts";
import type { AgentBackend } from "./backend.ts";
import { requestDigest } from "./request-digest.ts";
import type { ApiInstance } from "./route.ts";

export function addAgentUpdateRoutes(app: ApiInstance, agents: Pick<AgentBackend, "updateAgents">): void {
  app.route({
    method: "POST",
    url: "/api/v1/agent-updates",
    config: { permission: "agents:write" },
    schema: {
      summary: "Have agents update themselves to the executable that this node serves",
      description:
        "One task of the lane `system` for each, followed like every other (`tasks:read`). Its log and exit code are those of `holdfast agent update` on the target. An agent that cannot update itself refuses it. Safe to repeat under one idempotency key.",
      tags: ["agents"],
      headers: z.object({ "idempotency-key": idempotencyKeySchema.optional() }),
      body: agentUpdateSchema,
      response: { 201: submitAnswerSchema },
    },
    handler: async (request, reply) => {
      const key = request.headers["idempotency-key"] ?? randomUUID();
      const asked = { key, digest: requestDigest({ update: request.body }), request: request.body };
      return reply.code(201).send(await agents.updateAgents(asked, principalOf(request)));
    },
  });
}
