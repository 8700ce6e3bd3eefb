// Follows one task over any number of connections. Invariant: what comes out of each stream is every byte once, in order:
// the position moves only with what was handed on, a reconnect asks for that position, and what overlaps it is cut off.
import type { z } from "zod";
import {
  endEventSchema,
  formatPosition,
  logEventSchema,
  stateEventSchema,
  type LogEvent,
  type LogPosition,
  type StateEvent,
} from "../shared/api/task-events.ts";
import type { TaskView } from "../shared/api/tasks.ts";
import { createBackoff } from "../shared/backoff.ts";
import { AppError } from "../shared/errors.ts";
import type { Stream } from "../shared/task.ts";
import { readEvents, type ServerEvent } from "./event-stream.ts";
import { unreachable } from "./problem.ts";
import type { Transport } from "./transport.ts";

export type LogContent = { readonly bytes: Uint8Array } | { readonly omitted: number };

export type Followed =
  | {
      readonly kind: "log";
      readonly stream: Stream;
      readonly offset: number;
      readonly at: string | null;
      readonly content: LogContent;
    }
  | { readonly kind: "state"; readonly state: StateEvent }
  | { readonly kind: "end"; readonly task: TaskView };

export interface FollowOptions {
  readonly task: string;
  readonly from: LogPosition;
  readonly signal: AbortSignal;
  /** Told when a connection was lost; it is dialled again until `signal` aborts. */
  readonly onTrouble?: ((error: AppError) => void) | undefined;
}

/** Three heartbeats of the server. */
const silenceMs = 45_000;
/** A proxy may ask for an hour; whoever watches a log waits a minute at most. */
const longestRetryMs = 60_000;
const reconnect = { baseMs: 250, capMs: 10_000 } as const;

/** Ends after the `end` event. Throws AppError for what no reconnect can mend: refused key, unknown task, abort. */
export async function* followTask(transport: Transport, options: FollowOptions): AsyncGenerator<Followed> {
  const { clock, random } = transport.platform;
  const backoff = createBackoff({ random }, reconnect);
  let position = options.from;
  for (;;) {
    let trouble: AppError;
    try {
      for await (const item of followOnce(transport, options, position)) {
        backoff.reset();
        const fresh = item.kind === "log" ? cut(item, position) : item;
        if (fresh === undefined) continue;
        if (fresh.kind === "log") position = { ...position, [fresh.stream]: fresh.offset + lengthOf(fresh.content) };
        yield fresh;
        if (fresh.kind === "end") return;
      }
      trouble = new AppError("connection.closed", "the server ended the stream");
    } catch (cause) {
      trouble = AppError.from(cause);
      if (!trouble.retryable || options.signal.aborted) throw trouble;
    }
    options.onTrouble?.(trouble);
    const askedMs = Math.min((trouble.retryAfterSeconds ?? 0) * 1_000, longestRetryMs);
    await clock.sleep(backoff.nextMs(askedMs), options.signal);
  }
}

export function lengthOf(content: LogContent): number {
  return "bytes" in content ? content.bytes.length : content.omitted;
}

type LogItem = Extract<Followed, { kind: "log" }>;

/** Without what the reader has already; undefined when nothing is left. A gap is a broken promise: the connection is given up. */
function cut(item: LogItem, position: LogPosition): LogItem | undefined {
  const have = position[item.stream];
  if (item.offset > have)
    throw new AppError("connection.closed", `the server skipped from ${have} to ${item.offset} of ${item.stream}`);
  const surplus = have - item.offset;
  if (surplus === 0) return item;
  if (surplus >= lengthOf(item.content)) return undefined;
  const content =
    "bytes" in item.content
      ? { bytes: item.content.bytes.subarray(surplus) }
      : { omitted: item.content.omitted - surplus };
  return { ...item, offset: have, content };
}

async function* followOnce(
  transport: Transport,
  options: FollowOptions,
  position: LogPosition,
): AsyncGenerator<Followed> {
  const { clock } = transport.platform;
  const ended = new AbortController();
  const signal = AbortSignal.any([options.signal, ended.signal]);
  const path = `/api/v1/tasks/${encodeURIComponent(options.task)}/events`;
  const silent = new AppError("connection.closed", `nothing from the server for ${silenceMs} ms`);
  let heardMs = clock.monotonicMs();
  const watch = clock.every(silenceMs / 3, () => {
    if (clock.monotonicMs() - heardMs >= silenceMs) ended.abort(silent);
  });
  try {
    const headers = { accept: "text/event-stream", "last-event-id": formatPosition(position) };
    const response = await transport.once({ method: "GET", path, headers, repeatable: "once", signal });
    if (response.body === null) throw new AppError("connection.closed", "the answer has no body");
    const events = readEvents(response.body, () => {
      heardMs = clock.monotonicMs();
    });
    for await (const event of events) {
      const item = parseEvent(event);
      if (item !== undefined) yield item;
    }
  } catch (cause) {
    if (options.signal.aborted)
      throw new AppError("aborted", "following was stopped", { cause: options.signal.reason });
    if (ended.signal.aborted) throw silent;
    throw cause instanceof AppError ? cause : unreachable(path, cause);
  } finally {
    watch.cancel();
    ended.abort();
  }
}

function parseEvent(event: ServerEvent): Followed | undefined {
  switch (event.event) {
    case "log": {
      const log = parse(logEventSchema, event);
      return { kind: "log", stream: log.stream, offset: log.offset, at: log.at, content: contentOf(log) };
    }
    case "state":
      return { kind: "state", state: parse(stateEventSchema, event) };
    case "end":
      return { kind: "end", task: parse(endEventSchema, event).task };
    default:
      return undefined;
  }
}

function parse<Schema extends z.ZodType>(schema: Schema, event: ServerEvent): z.output<Schema> {
  let data: unknown;
  try {
    data = JSON.parse(event.data);
  } catch {
    data = undefined;
  }
  const parsed = schema.safeParse(data);
  if (!parsed.success)
    throw new AppError("protocol.unsupported", `an event "${event.event}" of the server has not the expected form`);
  return parsed.data;
}

function contentOf(log: LogEvent): LogContent {
  if ("omitted" in log) return { omitted: log.omitted };
  const binary = atob(log.bytes);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index += 1) bytes[index] = binary.charCodeAt(index);
  return { bytes };
}
