// Browsers of other origins (CORS): none unless allowed by exact origin. Keys travel in a header, never in a cookie, so an
// allowed origin still needs one; preflights are answered here and reach no route.
import { AppError } from "../../shared/errors.ts";
import type { ApiInstance } from "./route.ts";

const requestHeaders = "authorization, content-type, idempotency-key, last-event-id, traceparent, x-request-id";
const shownHeaders = "retry-after, x-request-id";
/** How long a browser may remember a preflight: an hour. */
const rememberSeconds = 3_600;

/** Throws `config.invalid` for anything but `scheme://host[:port]`. */
export function parseOrigins(texts: readonly string[]): ReadonlySet<string> {
  for (const text of texts) {
    if (!URL.canParse(text) || new URL(text).origin !== text) {
      throw new AppError(
        "config.invalid",
        `--allow-origin ${text}: expected an origin such as https://deploy.example.com`,
      );
    }
  }
  return new Set(texts);
}

/** Goes before authorization: a preflight carries no key. */
export function installCrossOrigin(app: ApiInstance, allowed: ReadonlySet<string>): void {
  if (allowed.size === 0) return;
  app.addHook("onRequest", async (request, reply) => {
    const { origin } = request.headers;
    if (origin === undefined || !allowed.has(origin)) return;
    reply
      .header("access-control-allow-origin", origin)
      .header("access-control-expose-headers", shownHeaders)
      .header("vary", "origin");
    if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined) return;
    await reply
      .header("access-control-allow-methods", "GET, POST, PATCH, DELETE")
      .header("access-control-allow-headers", requestHeaders)
      .header("access-control-max-age", String(rememberSeconds))
      .code(204)
      .send();
  });
}
