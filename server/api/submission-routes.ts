// Submitting work and reading a submission back. The work itself is TaskBackend.submit's.
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { selectorOf } from "../../shared/api/selector.ts";
import {
  idempotencyKeySchema,
  submissionViewSchema,
  submitAnswerSchema,
  submitRequestSchema,
  type SubmitRequest,
} from "../../shared/api/submissions.ts";
import { AppError } from "../../shared/errors.ts";
import { submissionIdSchema } from "../../shared/ids.ts";
import type { Secret } from "../../shared/secret.ts";
import { limits } from "../../shared/task.ts";
import { isTraceParent } from "../../shared/trace-parent.ts";
import { withTrace } from "../tasks/trace-environment.ts";
import { principalOf } from "./authorize.ts";
import type { Submit, TaskBackend } from "./backend.ts";
import { requestDigest } from "./request-digest.ts";
import { found, idFrom, type ApiInstance } from "./route.ts";

/** A batch of many scripts is larger than other requests; JSON escapes may double a script. */
const submitBodyBytes = 8 * 1024 * 1024;

export function addSubmissionRoutes(app: ApiInstance, tasks: TaskBackend): void {
  app.route({
    method: "POST",
    url: "/api/v1/submissions",
    config: { permission: "tasks:run" },
    bodyLimit: submitBodyBytes,
    schema: {
      summary: "Run something on agents",
      description:
        "One spec for every agent that `on` means, or up to 1,000 independent `tasks`. 201 means stored durably; 429 `queue.full` that too much waits already, and that nothing was stored.",
      tags: ["submissions"],
      headers: z.object({
        "idempotency-key": idempotencyKeySchema.optional(),
        traceparent: z
          .string()
          .optional()
          .describe("W3C Trace Context; in the scripts' environment as TRACEPARENT. One of another form is ignored"),
      }),
      body: submitRequestSchema,
      response: { 201: submitAnswerSchema },
    },
    preValidation: async (request) => refuseLargeScript(request.body),
    handler: async (request, reply) => {
      // Without a key every request is a new one; the request id is the client's to repeat and no key.
      const key = request.headers["idempotency-key"] ?? randomUUID();
      const answer = await tasks.submit(
        toSubmit({ key, trace: request.headers.traceparent }, request.body),
        principalOf(request),
      );
      return reply.code(201).send(answer);
    },
  });

  app.route({
    method: "GET",
    url: "/api/v1/submissions/:id",
    config: { permission: "tasks:read" },
    schema: {
      summary: "Read a submission",
      tags: ["submissions"],
      params: z.object({ id: z.string() }),
      response: { 200: submissionViewSchema },
    },
    handler: async (request) => {
      const id = idFrom(submissionIdSchema, request.params.id, "submission.unknown");
      return found(await tasks.readSubmission(id), "submission.unknown", id);
    },
  });
}

/** The digest is without the trace: a client that sends a request again may be in another span. */
function toSubmit(given: { readonly key: string; readonly trace: string | undefined }, request: SubmitRequest): Submit {
  const { key } = given;
  const trace = isTraceParent(given.trace) ? given.trace : undefined;
  return {
    key,
    digest: requestDigest(withoutValues(request)),
    work:
      "tasks" in request
        ? { items: request.tasks.map((item) => ({ ...item, spec: withTrace(item.spec, trace) })) }
        : { selector: selectorOf(request.on), spec: withTrace(request.spec, trace), secrets: request.secrets },
    queueTimeoutMs: request.queueTimeoutMs,
    unreachableLimitMs: request.unreachableLimitMs,
    lane: request.lane ?? "work",
    priority: request.priority,
    ifOffline: request.ifOffline,
  };
}

/** A plain digest of a value that can be guessed would tell whoever reads the database that the guess is right. */
function withoutValues(request: SubmitRequest): unknown {
  const named = (secrets: readonly Secret[] | undefined) => secrets?.map(({ name, as }) => ({ name, as }));
  if (!("tasks" in request)) return { ...request, secrets: named(request.secrets) };
  return { ...request, tasks: request.tasks.map((item) => ({ ...item, secrets: named(item.secrets) })) };
}

const scriptHolder = z.object({ spec: z.object({ script: z.string() }) });
const scriptHolders = z.union([
  scriptHolder.transform((one) => [one]),
  z.object({ tasks: z.array(scriptHolder) }).transform((batch) => batch.tasks),
]);

/** Before the contract, because this limit has a code of its own. */
function refuseLargeScript(body: unknown): void {
  const holders = scriptHolders.safeParse(body);
  for (const { spec } of holders.data ?? []) {
    const bytes = Buffer.byteLength(spec.script);
    if (bytes > limits.scriptBytes)
      throw new AppError("script.too-large", `the script has ${bytes} bytes; at most ${limits.scriptBytes} are taken`);
  }
}
