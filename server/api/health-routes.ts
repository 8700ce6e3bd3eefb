// Health, readiness and metrics of this node.
import type { Registry } from "prom-client";
import { z } from "zod";
import { healthSchema, readinessSchema } from "../../shared/api/health.ts";
import type { HealthBackend } from "./backend.ts";
import type { ApiInstance } from "./route.ts";

export interface HealthRoutesDeps {
  readonly health: HealthBackend;
  readonly registry: Registry;
  readonly version: string;
}

export function addHealthRoutes(app: ApiInstance, deps: HealthRoutesDeps): void {
  app.route({
    method: "GET",
    url: "/healthz",
    // Some load balancers check by HEAD.
    exposeHeadRoute: true,
    config: { permission: "public" },
    schema: { summary: "Is the process alive", tags: ["health"], response: { 200: healthSchema } },
    handler: async () => ({ status: "alive" as const, version: deps.version }),
  });

  app.route({
    method: "GET",
    url: "/readyz",
    exposeHeadRoute: true,
    config: { permission: "public" },
    schema: {
      summary: "Should users be sent here",
      description: "503 while draining or without its database; the body says which.",
      tags: ["health"],
      response: { 200: readinessSchema, 503: readinessSchema },
    },
    handler: async (_request, reply) => {
      const readiness = await deps.health.readiness();
      return reply.code(readiness.ready ? 200 : 503).send(readiness);
    },
  });

  app.route({
    method: "GET",
    url: "/metrics",
    config: { permission: "metrics:read" },
    schema: {
      summary: "Metrics in Prometheus' text form",
      tags: ["health"],
      response: { 200: { description: "Metrics", content: { "text/plain": { schema: z.string() } } } },
    },
    handler: async (_request, reply) => {
      reply.header("content-type", deps.registry.contentType);
      reply.serializer((text: string) => text);
      return reply.send(await deps.registry.metrics());
    },
  });
}
