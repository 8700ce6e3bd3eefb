// Who may call what. Deny by default: every route names its permission, a route without one cannot be registered, and
// nothing of a request is parsed before its key was checked. Keys are found by id; only digests are compared, in constant
// time and on the same path for unknown ids.
import { timingSafeEqual } from "node:crypto";
import type { FastifyRequest } from "fastify";
import { parseApiKey } from "../../shared/api/api-key.ts";
import { allows, type Scope } from "../../shared/api/scope.ts";
import { AppError } from "../../shared/errors.ts";
import { sha256 } from "../../shared/thumbprint.ts";
import type { KeyBackend, Principal } from "./backend.ts";
import { clientAddress, type TrustedProxies } from "./client-address.ts";
import type { ApiInstance } from "./route.ts";

export type Permission = Scope | "public";

declare module "fastify" {
  interface FastifyContextConfig {
    permission?: Permission;
  }
  interface FastifyRequest {
    principal: Principal | null;
    clientAddress: string;
  }
}

export interface AuthorizeDeps {
  readonly keys: KeyBackend;
  readonly proxies: TrustedProxies;
}

/** Compared with when no key has the id, so that the answer takes as long. */
const noDigest = sha256("no such key");

export function installAuthorization(app: ApiInstance, deps: AuthorizeDeps): void {
  app.decorateRequest("principal", null);
  app.decorateRequest("clientAddress", "");
  app.addHook("onRoute", (route) => {
    if (route.config?.permission === undefined) {
      throw new AppError("internal", `the route ${String(route.method)} ${route.url} declares no permission`);
    }
  });
  app.addHook("onRequest", async (request) => {
    const forwarded = request.headers["x-forwarded-for"];
    request.clientAddress = clientAddress(
      {
        peer: request.socket.remoteAddress ?? "",
        forwardedFor: Array.isArray(forwarded) ? forwarded.join(",") : forwarded,
      },
      deps.proxies,
    );
    if (request.is404) return;
    const permission = request.routeOptions.config.permission;
    if (permission === "public") return;
    const principal = await authenticate(deps.keys, request);
    if (permission === undefined || !allows(principal.scopes, permission)) {
      throw new AppError("auth.forbidden", `the key "${principal.name}" has not the permission ${String(permission)}`);
    }
    request.principal = principal;
  });
}

/** The caller of a route that is not public. */
export function principalOf(request: FastifyRequest): Principal {
  if (request.principal === null) throw new AppError("internal", "a public route asked for its principal");
  return request.principal;
}

async function authenticate(keys: KeyBackend, request: FastifyRequest): Promise<Principal> {
  const header = request.headers.authorization;
  if (header === undefined) throw new AppError("auth.missing", "the request carries no API key");
  const key = parseApiKey(/^Bearer +(\S+)$/i.exec(header)?.[1] ?? "");
  if (key === undefined) {
    throw new AppError(
      "auth.invalid",
      "the Authorization header does not hold a key of the form `Bearer hfk_<id>_<secret>`",
    );
  }
  const row = await keys.findApiKey(key.id);
  const equal = timingSafeEqual(sha256(key.secret), row?.secretDigest ?? noDigest);
  if (row === null || !equal || !row.valid)
    throw new AppError("auth.invalid", "the API key is unknown, revoked or expired");
  return { id: row.id, name: row.name, scopes: row.scopes, address: request.clientAddress };
}
