// Turns anything thrown under a request into a problem answer. Errors without a code become `internal`: the client gets the
// request id, the log gets the rest.
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { isResponseSerializationError } from "fastify-type-provider-zod";
import type { Problem } from "../../shared/api/problem.ts";
import { AppError, errorRows } from "../../shared/errors.ts";
import type { Logger } from "../../shared/logger.ts";
import type { ApiInstance } from "./route.ts";

export function installProblemReplies(app: ApiInstance, deps: { readonly logger: Logger }): void {
  app.setErrorHandler((cause: unknown, request, reply) => sendProblem(reply, toAppError(cause, request, deps.logger)));
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?", 1)[0] ?? "";
    return sendProblem(
      reply,
      new AppError("route.unknown", `there is no route ${request.method} ${path.slice(0, 256)}`),
    );
  });
}

export function sendProblem(reply: FastifyReply, error: AppError): FastifyReply {
  const problem: Problem = { code: error.code, message: error.message, mend: error.mend, requestId: reply.request.id };
  if (error.retryAfterSeconds !== undefined) reply.header("retry-after", String(Math.ceil(error.retryAfterSeconds)));
  if (errorRows[error.code].status === 401) reply.header("www-authenticate", 'Bearer realm="holdfast"');
  // Serialised here: the route's own schemas describe successes only.
  return reply
    .code(errorRows[error.code].status)
    .header("content-type", "application/json; charset=utf-8")
    .serializer((payload: unknown) => JSON.stringify(payload))
    .send(problem);
}

function toAppError(cause: unknown, request: FastifyRequest, logger: Logger): AppError {
  if (cause instanceof AppError) {
    if (cause.code === "internal")
      logger.error({ err: cause, requestId: request.id, route: request.routeOptions.url }, cause.message);
    // What went wrong inside is for the log; a caller gets the request id to ask with.
    return cause.code === "internal"
      ? new AppError("internal", "the server met an error of its own", { cause })
      : cause;
  }
  const known = isFastifyError(cause) ? fromFastify(cause, request) : undefined;
  if (known !== undefined) return known;
  const what = isResponseSerializationError(cause) ? "an answer did not match its contract" : "a request failed";
  logger.error({ err: cause, requestId: request.id, route: request.routeOptions.url }, what);
  return new AppError("internal", "the server met an error of its own");
}

function isFastifyError(cause: unknown): cause is FastifyError {
  return cause instanceof Error && "code" in cause && typeof cause.code === "string" && cause.code.startsWith("FST_");
}

function fromFastify(cause: FastifyError, request: FastifyRequest): AppError | undefined {
  switch (cause.code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new AppError(
        "request.too-large",
        `the request's body is larger than the ${request.routeOptions.bodyLimit} bytes this route takes`,
      );
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return new AppError("request.invalid", "the body's content type is not application/json");
    case "FST_ERR_CTP_EMPTY_JSON_BODY":
    case "FST_ERR_CTP_INVALID_JSON_BODY":
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
      return new AppError("request.invalid", "the body is not one JSON value");
    default:
      return cause.statusCode !== undefined && cause.statusCode < 500
        ? new AppError("request.invalid", "the request cannot be read")
        : undefined;
  }
}
