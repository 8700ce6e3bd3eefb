// Enrolment tokens: create, list, revoke. The secret text leaves in the answer to its creation only.
import { z } from "zod";
import { pageOf } from "../../shared/api/page.ts";
import {
  createdTokenSchema,
  createTokenSchema,
  tokenListQuerySchema,
  tokenViewSchema,
} from "../../shared/api/tokens.ts";
import { tokenIdSchema } from "../../shared/ids.ts";
import { principalOf } from "./authorize.ts";
import type { TokenBackend } from "./backend.ts";
import { found, idFrom, page, type ApiInstance } from "./route.ts";

export function addTokenRoutes(app: ApiInstance, tokens: TokenBackend): void {
  app.route({
    method: "POST",
    url: "/api/v1/tokens",
    config: { permission: "tokens:write" },
    schema: {
      summary: "Create an enrolment token",
      description: "Single use. The answer is the only place that shows its text.",
      tags: ["tokens"],
      body: createTokenSchema,
      response: { 201: createdTokenSchema },
    },
    handler: async (request, reply) =>
      reply.code(201).send(await tokens.createToken(request.body, principalOf(request))),
  });

  app.route({
    method: "GET",
    url: "/api/v1/tokens",
    config: { permission: "tokens:read" },
    schema: {
      summary: "List enrolment tokens, newest first",
      tags: ["tokens"],
      querystring: tokenListQuerySchema,
      response: { 200: pageOf(tokenViewSchema) },
    },
    handler: async ({ query }) => page(query, tokenIdSchema, (wanted) => tokens.listTokens(wanted)),
  });

  app.route({
    method: "POST",
    url: "/api/v1/tokens/:id/revoke",
    config: { permission: "tokens:write" },
    schema: {
      summary: "Revoke an enrolment token",
      tags: ["tokens"],
      params: z.object({ id: z.string() }),
      response: { 200: tokenViewSchema },
    },
    handler: async (request) => {
      const id = idFrom(tokenIdSchema, request.params.id, "token.unknown");
      return found(await tokens.revokeToken(id, principalOf(request)), "token.unknown", id);
    },
  });
}
