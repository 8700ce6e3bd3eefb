// Followers of tasks over server-sent events. One loop per reader: read what it lacks, write it, wait until the socket has
// taken it, wait for a change. Invariants: a reader never has more than one read (256 KiB of log) buffered here, ids only
// grow, and the streams of a node are counted and ended at stop.
import type { ServerResponse } from "node:http";
import { once } from "node:events";
import type { FastifyReply } from "fastify";
import type { Gauge } from "prom-client";
import { formatPosition, type LogEvent, type LogPosition, type StateEvent } from "../../shared/api/task-events.ts";
import type { Background } from "../../shared/background.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { TaskId } from "../../shared/ids.ts";
import { streams as bothStreams } from "../../shared/task.ts";
import type { LogPiece, LogRead, TaskBackend } from "./backend.ts";
import { positionAfter, trimPiece } from "./log-pieces.ts";

export interface TaskStreamsDeps {
  readonly tasks: TaskBackend;
  readonly clock: Clock;
  readonly background: Background;
  readonly open: Gauge;
}

export interface TaskStreamsOptions {
  /** Streams of this node at once; the next one is answered 503. */
  readonly most: number;
  /** Silence after which a comment is sent, so that proxies and clients see life. */
  readonly heartbeatMs: number;
  /** A reader that takes nothing for this long is cut off; it can resume. */
  readonly stallMs: number;
}

export const taskStreamsDefaults: TaskStreamsOptions = { most: 1_000, heartbeatMs: 15_000, stallMs: 60_000 };

/** One read; base64 makes a third more of it, so a reader holds well under 1 MiB. */
const readBytes = 256 * 1024;
const eventBytes = 64 * 1024;

export interface Follow {
  readonly task: TaskId;
  readonly from: LogPosition;
  readonly reply: FastifyReply;
}

export class TaskStreams {
  readonly #deps: TaskStreamsDeps;
  readonly #options: TaskStreamsOptions;
  readonly #stopping = new AbortController();
  #open = 0;

  constructor(deps: TaskStreamsDeps, options: TaskStreamsOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Takes the response over. Throws `stream.limit` or `node.draining` before it has written anything. */
  follow(follow: Follow): void {
    if (this.#stopping.signal.aborted) throw new AppError("node.draining", "this node stops", { retryAfterSeconds: 1 });
    if (this.#open >= this.#options.most) {
      throw new AppError("stream.limit", `this node follows ${this.#open} tasks already`, { retryAfterSeconds: 5 });
    }
    const { reply } = follow;
    reply.hijack();
    const response = reply.raw;
    for (const [name, value] of Object.entries(reply.getHeaders()))
      if (value !== undefined) response.setHeader(name, value);
    // X-Accel-Buffering: nginx would otherwise hold events back.
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no" });
    this.#setOpen(this.#open + 1);
    this.#deps.background.run("task stream", async () => {
      try {
        await this.#serve(follow, response);
      } finally {
        this.#setOpen(this.#open - 1);
      }
    });
  }

  /** Ends every stream; readers reconnect to another node and resume. */
  stop(): void {
    this.#stopping.abort(new AppError("node.draining", "this node stops"));
  }

  #setOpen(count: number): void {
    this.#open = count;
    this.#deps.open.set(count);
  }

  async #serve(follow: Follow, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    // Who left while its task was looked up has been told of already, and would be followed until the task ends.
    if (response.destroyed || response.socket === null) gone.abort();
    response.once("close", () => gone.abort(new AppError("connection.closed", "the reader went away")));
    const signal = AbortSignal.any([gone.signal, this.#stopping.signal]);
    const heartbeat = this.#deps.clock.every(this.#options.heartbeatMs, () => {
      if (!response.writableNeedDrain) response.write(": alive\n\n");
    });
    try {
      response.write("retry: 500\n\n");
      await this.#send(follow, response, signal);
    } catch (cause) {
      if (!signal.aborted) throw cause;
    } finally {
      heartbeat.cancel();
      response.end();
    }
  }

  async #send(follow: Follow, response: ServerResponse, signal: AbortSignal): Promise<void> {
    let position = follow.from;
    let shown = "";
    while (!signal.aborted) {
      // Asked for before the read: a change between read and wait must not be slept through.
      const changed = new AbortController();
      const change = this.#deps.tasks.waitForChange(follow.task, AbortSignal.any([signal, changed.signal]));
      change.catch(() => undefined);
      try {
        const read = await this.#deps.tasks.readLog({
          task: follow.task,
          from: position,
          streams: bothStreams,
          limitBytes: readBytes,
        });
        if (read === null) return;
        const before = position;
        for (const piece of piecesFor(read, position)) {
          position = positionAfter(piece, position);
          writeLog(response, { piece, id: position });
        }
        shown = this.#showState(response, { read, position, shown });
        if (reachedEnd(read, position)) {
          await this.#end(follow.task, response, position);
          return;
        }
        await this.#drained(response, signal);
        if (position.out !== before.out || position.err !== before.err) continue;
        await change;
      } finally {
        changed.abort();
      }
    }
  }

  #showState(response: ServerResponse, now: { read: LogRead; position: LogPosition; shown: string }): string {
    const state: StateEvent = now.read.state;
    const text = JSON.stringify(state);
    if (text !== now.shown) writeEvent(response, { event: "state", id: now.position, data: state });
    return text;
  }

  async #end(id: TaskId, response: ServerResponse, position: LogPosition): Promise<void> {
    const task = await this.#deps.tasks.readTask(id);
    if (task !== null) writeEvent(response, { event: "end", id: position, data: { task } });
  }

  async #drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
    if (!response.writableNeedDrain) return;
    const stalled = this.#deps.clock.after(this.#options.stallMs, () => response.destroy());
    try {
      await once(response, "drain", { signal });
    } finally {
      stalled.cancel();
    }
  }
}

function* piecesFor(read: LogRead, from: LogPosition): Generator<LogPiece> {
  let position = from;
  for (const piece of read.pieces) {
    const rest = trimPiece(piece, position);
    if (rest === null) continue;
    if (rest.offset !== position[rest.stream])
      throw new AppError("internal", `the log has a gap at ${position[rest.stream]} of ${rest.stream}`);
    position = positionAfter(rest, position);
    yield* split(rest);
  }
}

/** Events small enough to be parsed and shown one by one. */
function* split(piece: LogPiece): Generator<LogPiece> {
  if (!("bytes" in piece.content)) {
    yield piece;
    return;
  }
  const { bytes } = piece.content;
  for (let start = 0; start < bytes.length; start += eventBytes) {
    yield {
      ...piece,
      offset: piece.offset + start,
      content: { bytes: bytes.subarray(start, start + eventBytes) },
    };
  }
}

/**
 * One log event, its bytes as base64 in one buffer. As text it is copied by JSON, by joining and by the socket: following
 * 100 MB written at 10 MB/s grew a fresh node by 128 to 142 MB that way, and by 93 to 97 MB this way.
 */
function writeLog(response: ServerResponse, log: { readonly piece: LogPiece; readonly id: LogPosition }): void {
  const { stream, offset, content, atMs } = log.piece;
  const at = atMs === null ? null : new Date(atMs).toISOString();
  if ("omitted" in content) {
    const data: LogEvent = { stream, offset, at, omitted: content.omitted };
    writeEvent(response, { event: "log", id: log.id, data });
    return;
  }
  const { buffer, byteOffset, byteLength } = content.bytes;
  const base64 = Buffer.from(buffer, byteOffset, byteLength).toString("base64");
  const head = `event: log\nid: ${formatPosition(log.id)}\ndata: {"stream":"${stream}","offset":${offset},"at":${JSON.stringify(at)},"bytes":"`;
  const tail = '"}\n\n';
  const event = Buffer.allocUnsafe(head.length + base64.length + tail.length);
  const end = event.write(head, "latin1");
  event.write(base64, end, "latin1");
  event.write(tail, end + base64.length, "latin1");
  response.write(event);
}

function reachedEnd(read: LogRead, position: LogPosition): boolean {
  return read.final && position.out >= read.outLength && position.err >= read.errLength;
}

function writeEvent(response: ServerResponse, event: { event: string; id: LogPosition; data: object }): void {
  response.write(`event: ${event.event}\nid: ${formatPosition(event.id)}\ndata: ${JSON.stringify(event.data)}\n\n`);
}
