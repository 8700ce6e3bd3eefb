// The OpenAPI 3.1 document, generated from the same zod contracts that check the requests, and its routes.
import swagger from "@fastify/swagger";
import { jsonSchemaTransform } from "fastify-type-provider-zod";
import { z } from "zod";
import { problemSchema } from "../../shared/api/problem.ts";
import { renderDocs, docsStyle, openApiSchema } from "./docs-page.ts";
import type { ApiInstance } from "./route.ts";

const contentSecurityPolicy =
  "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Must be awaited before any route is added: it watches routes being registered. */
export async function installOpenApi(app: ApiInstance, options: { readonly version: string }): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Holdfast",
        version: options.version,
        description:
          "Listings are `{items, next}`, newest first. Errors are `{code, message, mend, requestId}`. Times are RFC 3339 UTC. Ids are opaque and sort by creation.",
      },
      components: {
        securitySchemes: { apiKey: { type: "http", scheme: "bearer", description: "An API key: hfk_<id>_<secret>" } },
      },
      security: [{ apiKey: [] }],
    },
    transform: (document) => {
      const transformed = jsonSchemaTransform(document);
      const permission = document.route.config?.permission;
      const security = permission === "public" ? { security: [] } : {};
      return { ...transformed, schema: { ...transformed.schema, ...security, "x-permission": permission } };
    },
    transformObject: (document) => {
      if (!("openapiObject" in document)) return document.swaggerObject;
      const problem = {
        description: "Failed",
        content: { "application/json": { schema: z.toJSONSchema(problemSchema) } },
      };
      const paths = Object.entries(document.openapiObject.paths ?? {}).map(([path, item]) => {
        const operations = Object.entries(item ?? {}).map(([method, operation]) =>
          typeof operation === "object" && "responses" in operation
            ? [method, { ...operation, responses: { ...operation.responses, default: problem } }]
            : [method, operation],
        );
        return [path, Object.fromEntries(operations)];
      });
      return { ...document.openapiObject, paths: Object.fromEntries(paths) };
    },
  });
}

export function addDocsRoutes(app: ApiInstance): void {
  app.route({
    method: "GET",
    url: "/api/openapi.json",
    config: { permission: "public" },
    schema: { hide: true },
    handler: async (_request, reply) => reply.send(app.swagger()),
  });
  app.route({
    method: "GET",
    url: "/api/docs",
    config: { permission: "public" },
    schema: { hide: true },
    handler: async (_request, reply) => {
      reply.header("content-type", "text/html; charset=utf-8").header("content-security-policy", contentSecurityPolicy);
      return reply.send(renderDocs(openApiSchema.parse(app.swagger())));
    },
  });
  app.route({
    method: "GET",
    url: "/api/docs.css",
    config: { permission: "public" },
    schema: { hide: true },
    handler: async (_request, reply) => reply.header("content-type", "text/css; charset=utf-8").send(docsStyle),
  });
}
