// The events of `GET /api/v1/tasks/:id/events`. The SSE id of each is the reader's position after it, `out.err` in bytes
// produced; sent back as `Last-Event-ID` (or `?from=`) it goes on exactly there. Log events never overlap or leave a gap.
import { z } from "zod";
import { streamSchema, taskStates } from "../task.ts";
import { momentSchema } from "./moment.ts";
import { progressViewSchema, taskViewSchema } from "./tasks.ts";

const place = {
  stream: streamSchema,
  offset: z.int().min(0).describe("Of the first byte, in bytes the script has produced"),
  at: momentSchema
    .nullable()
    .default(null)
    .describe("When the agent saw the first byte, by its own calendar; null when that is not known"),
};

export const logEventSchema = z.union([
  z.object({ ...place, bytes: z.string().describe("base64") }),
  z.object({ ...place, omitted: z.int().min(1).describe("That many bytes were dropped on the agent") }),
]);
export type LogEvent = z.infer<typeof logEventSchema>;

export const stateEventSchema = z.object({
  state: z.enum(taskStates),
  reason: z.string().nullable(),
  home: z.string().nullable(),
  waiting: z.string().nullable(),
  cancelRequested: z.boolean(),
  progress: progressViewSchema.nullable().default(null),
});
export type StateEvent = z.infer<typeof stateEventSchema>;

export const endEventSchema = z.object({ task: taskViewSchema });
export type EndEvent = z.infer<typeof endEventSchema>;

/** How much of each stream a reader has, in bytes produced. */
export interface LogPosition {
  readonly out: number;
  readonly err: number;
}

export const startOfLog: LogPosition = { out: 0, err: 0 };

/** Beyond any log: a reader that wants states and the end only. */
export const beyondLog: LogPosition = { out: Number.MAX_SAFE_INTEGER, err: Number.MAX_SAFE_INTEGER };

export function formatPosition(position: LogPosition): string {
  return `${position.out}.${position.err}`;
}

/** Undefined when the text is not `<out>.<err>`. */
export function parsePosition(text: string): LogPosition | undefined {
  const match = /^(\d{1,16})\.(\d{1,16})$/.exec(text);
  if (match === null) return undefined;
  const position = { out: Number(match[1]), err: Number(match[2]) };
  return Number.isSafeInteger(position.out) && Number.isSafeInteger(position.err) ? position : undefined;
}

export const eventsQuerySchema = z.object({
  from: z.string().max(40).optional().describe("Position `out.err` to go on from; the header Last-Event-ID wins"),
});
