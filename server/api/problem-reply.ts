// Turns anything thrown under a request into a problem answer. Errors without a code become `internal`: the client gets the
// request id, the log gets the rest.
import type { Socket } from "node:net";
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { isResponseSerializationError } from "fastify-type-provider-zod";
import type { Problem } from "../../shared/api/problem.ts";
import { AppError, errnoOf, errorRows } from "../../shared/errors.ts";
import type { IdSource } from "../../shared/ids.ts";
import type { Logger } from "../../shared/logger.ts";
import type { ApiInstance } from "./route.ts";

export function installProblemReplies(app: ApiInstance, deps: { readonly logger: Logger }): void {
  app.setErrorHandler((cause: unknown, request, reply) => sendProblem(reply, toAppError(cause, request, deps.logger)));
  app.setNotFoundHandler((request, reply) => sendProblem(reply, unknownRoute(request)));
}

export function unknownRoute({ url, method }: FastifyRequest): AppError {
  const path = url.split("?", 1)[0] ?? "";
  return new AppError("route.unknown", `there is no route ${method} ${path.slice(0, 256)}`);
}

export function sendProblem(reply: FastifyReply, error: AppError): FastifyReply {
  const problem: Problem = { code: error.code, message: error.message, mend: error.mend, requestId: reply.request.id };
  if (error.retryAfterSeconds !== undefined) reply.header("retry-after", String(Math.ceil(error.retryAfterSeconds)));
  // Fastify closes the connection of a body it gave up, and its sender would not hear why; the rest of this one is dropped.
  if (error.code === "rate.limited") reply.removeHeader("connection");
  if (errorRows[error.code].status === 401) reply.header("www-authenticate", 'Bearer realm="holdfast"');
  // Serialised here: the route's own schemas describe successes only.
  return reply
    .code(errorRows[error.code].status)
    .header("content-type", "application/json; charset=utf-8")
    .serializer((payload: unknown) => JSON.stringify(payload))
    .send(problem);
}

/** What routing itself refuses, before any error handler of the app is asked. */
export function sendFrameworkError(cause: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  void sendProblem(reply, fromFastify(cause, request) ?? new AppError("request.invalid", "the request cannot be read"));
}

/** Bytes that are no request: there is none to answer, so the problem is written to the socket as it is. */
export function refuseBytes(cause: Error, socket: Socket, ids: IdSource): void {
  if (socket.destroyed || !socket.writable) return;
  const error = fromParser(errnoOf(cause));
  const requestId = ids.next();
  const problem: Problem = { code: error.code, message: error.message, mend: error.mend, requestId };
  const body = JSON.stringify(problem);
  const { status } = errorRows[error.code];
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nConnection: close\r\nX-Request-Id: ${requestId}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    // A sender that reads nothing is not waited for.
    () => socket.destroy(),
  );
}

function fromParser(code: string | undefined): AppError {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new AppError("request.too-large", "the request's head is larger than the 8192 bytes that are taken");
    case "ERR_HTTP_REQUEST_TIMEOUT":
      // Nothing is wrong with it when this process stood still meanwhile: it goes on, and finds the time gone before it reads.
      return new AppError("request.timed-out", "the request had not come whole when its time was over");
    default:
      return new AppError("request.invalid", "this is not an HTTP request");
  }
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
  // Its sender went away amid the body: nothing of ours failed, and nobody hears the answer.
  if (request.raw.destroyed && errnoOf(cause) === "ECONNRESET")
    return new AppError("aborted", "the request was broken off");
  const what = isResponseSerializationError(cause) ? "an answer did not match its contract" : "a request failed";
  logger.error({ err: cause, requestId: request.id, route: request.routeOptions.url }, what);
  return new AppError("internal", "the server met an error of its own");
}

function isFastifyError(cause: unknown): cause is FastifyError {
  return cause instanceof Error && "code" in cause && typeof cause.code === "string" && cause.code.startsWith("FST_");
}

function fromFastify(cause: FastifyError, request: FastifyRequest): AppError | undefined {
  switch (cause.code) {
    case "FST_ERR_BAD_URL":
      return new AppError("request.invalid", "the path is not one of a URL: a percent sign begins no valid escape");
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
