// Reading, cancelling, abandoning and following tasks. Streams live in TaskStreams; a log download ends at what is stored now.
import { z } from "zod";
import { pageOf } from "../../shared/api/page.ts";
import { eventsQuerySchema, parsePosition, startOfLog, type LogPosition } from "../../shared/api/task-events.ts";
import { logQuerySchema, taskListQuerySchema, taskViewSchema } from "../../shared/api/tasks.ts";
import { AppError } from "../../shared/errors.ts";
import { taskIdSchema } from "../../shared/ids.ts";
import { streams as bothStreams } from "../../shared/task.ts";
import { principalOf } from "./authorize.ts";
import type { TaskBackend } from "./backend.ts";
import { logDownload } from "./log-download.ts";
import { found, idFrom, page, type ApiInstance } from "./route.ts";
import type { TaskStreams } from "./task-stream.ts";

const params = z.object({ id: z.string() });
/** A byte stream bypasses the serializer: a log is bytes, not text that a schema could describe. */
const bytes = z.unknown().meta({ type: "string" });

export function addTaskRoutes(
  app: ApiInstance,
  deps: { readonly tasks: TaskBackend; readonly streams: TaskStreams },
): void {
  const { tasks, streams } = deps;

  app.route({
    method: "GET",
    url: "/api/v1/tasks",
    config: { permission: "tasks:read" },
    schema: {
      summary: "List tasks, newest first",
      tags: ["tasks"],
      querystring: taskListQuerySchema,
      response: { 200: pageOf(taskViewSchema) },
    },
    handler: async ({ query }) =>
      page(query, taskIdSchema, (wanted) => tasks.listTasks({ ...wanted, state: query.state, agent: query.agent })),
  });

  app.route({
    method: "GET",
    url: "/api/v1/tasks/:id",
    config: { permission: "tasks:read" },
    schema: { summary: "Read a task", tags: ["tasks"], params, response: { 200: taskViewSchema } },
    handler: async (request) => {
      const id = idFrom(taskIdSchema, request.params.id, "task.unknown");
      return found(await tasks.readTask(id), "task.unknown", id);
    },
  });

  app.route({
    method: "POST",
    url: "/api/v1/tasks/:id/cancel",
    config: { permission: "tasks:run" },
    schema: {
      summary: "Cancel a task",
      description: "Recorded at once; final when the agent has confirmed it. Safe to repeat.",
      tags: ["tasks"],
      params,
      response: { 200: taskViewSchema },
    },
    handler: async (request) => {
      const id = idFrom(taskIdSchema, request.params.id, "task.unknown");
      return found(await tasks.cancelTask(id, principalOf(request)), "task.unknown", id);
    },
  });

  app.route({
    method: "POST",
    url: "/api/v1/tasks/:id/abandon",
    config: { permission: "tasks:run" },
    schema: {
      summary: "Abandon a task",
      description:
        "Final at once, without waiting for its agent: `abandoned`, and the script may still run. Its agent is asked to cancel it; a result that comes later is shown with the attempt and changes nothing. A task no agent knows of yet is `cancelled`. Safe to repeat.",
      tags: ["tasks"],
      params,
      response: { 200: taskViewSchema },
    },
    handler: async (request) => {
      const id = idFrom(taskIdSchema, request.params.id, "task.unknown");
      return found(await tasks.abandonTask(id, principalOf(request)), "task.unknown", id);
    },
  });

  app.route({
    method: "POST",
    url: "/api/v1/tasks/:id/retry",
    config: { permission: "tasks:run" },
    schema: {
      summary: "Try a task once more",
      description:
        "A new attempt, only when the latest one is final; `task.open` otherwise. An attempt that was lost or abandoned may still run on its agent.",
      tags: ["tasks"],
      params,
      response: { 200: taskViewSchema },
    },
    handler: async (request) => {
      const id = idFrom(taskIdSchema, request.params.id, "task.unknown");
      return found(await tasks.retryTask(id, principalOf(request)), "task.unknown", id);
    },
  });

  app.route({
    method: "POST",
    url: "/api/v1/tasks/:id/move-to-top",
    config: { permission: "tasks:run" },
    schema: {
      summary: "Move a queued task before its agent's others",
      description: "Among tasks moved to the top the older one stays first. Safe to repeat.",
      tags: ["tasks"],
      params,
      response: { 200: taskViewSchema },
    },
    handler: async (request) => {
      const id = idFrom(taskIdSchema, request.params.id, "task.unknown");
      return found(await tasks.moveTaskToTop(id, principalOf(request)), "task.unknown", id);
    },
  });

  app.route({
    method: "GET",
    url: "/api/v1/tasks/:id/log",
    config: { permission: "tasks:read" },
    schema: {
      summary: "Download a log",
      description:
        "What is stored now, as the script wrote it. A line in square brackets stands where bytes were omitted.",
      tags: ["tasks"],
      params,
      querystring: logQuerySchema,
      response: { 200: { description: "The log", content: { "text/plain": { schema: bytes } } } },
    },
    handler: async (request, reply) => {
      const id = idFrom(taskIdSchema, request.params.id, "task.unknown");
      const { stream } = request.query;
      const body = await logDownload(tasks, { task: id, streams: stream === "both" ? bothStreams : [stream] });
      reply.header("content-type", "text/plain; charset=utf-8");
      reply.header("content-disposition", `attachment; filename="${id}-${stream}.log"`);
      return reply.send(body);
    },
  });

  app.route({
    method: "GET",
    url: "/api/v1/tasks/:id/events",
    config: { permission: "tasks:read" },
    schema: {
      summary: "Follow a task (server-sent events)",
      description:
        "Events `log`, `state` and `end`; the id of each is the position `out.err` after it. Send it back as `Last-Event-ID` to go on exactly there.",
      tags: ["tasks"],
      params,
      querystring: eventsQuerySchema,
      headers: z.object({ "last-event-id": z.string().max(40).optional() }),
      response: {
        200: { description: "Server-sent events", content: { "text/event-stream": { schema: z.string() } } },
      },
    },
    handler: async (request, reply) => {
      const id = idFrom(taskIdSchema, request.params.id, "task.unknown");
      const from = positionFrom(request.headers["last-event-id"] ?? request.query.from);
      found(await tasks.readTask(id), "task.unknown", id);
      streams.follow({ task: id, from, reply });
      return reply;
    },
  });
}

function positionFrom(text: string | undefined): LogPosition {
  if (text === undefined || text === "") return startOfLog;
  const position = parsePosition(text);
  if (position === undefined)
    throw new AppError(
      "request.invalid",
      "Last-Event-ID (or `from`) is not a position of the form `out.err`, such as 1024.0",
    );
  return position;
}
