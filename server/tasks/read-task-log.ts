// A task's stored log from a reader's position on, with the state a follower shows.
import type { LogPosition, StateEvent } from "../../shared/api/task-events.ts";
import type { ProgressView } from "../../shared/api/tasks.ts";
import type { TaskId } from "../../shared/ids.ts";
import { isFinal, type Stream } from "../../shared/task.ts";
import type { Sql } from "../store/connection.ts";
import { interleave } from "./interleave.ts";
import { readLogChunks, readLogHeads, type LogHead, type StoredPiece } from "../store/read-log.ts";

export interface TaskLogQuery {
  readonly task: TaskId;
  readonly from: LogPosition;
  readonly streams: readonly Stream[];
  readonly limitBytes: number;
}

export interface TaskLog {
  readonly head: LogHead;
  readonly pieces: readonly StoredPiece[];
  readonly final: boolean;
  readonly outLength: number;
  readonly errLength: number;
  readonly state: StateEvent;
}

export interface TaskLogDeps {
  readonly sql: Sql;
  /** Asked only while the task is queued or offered. */
  readonly waiting: (task: TaskId) => Promise<string | null>;
}

/** A chunk holds at most 64 KiB. */
const chunkBytes = 64 * 1024;

export async function readTaskLog(deps: TaskLogDeps, query: TaskLogQuery): Promise<TaskLog | null> {
  const [head] = await readLogHeads(deps.sql, [query.task]);
  if (head === undefined) return null;
  const wanted = query.streams.filter((stream) => query.from[stream] < head[stream]);
  const most = Math.max(1, Math.ceil(query.limitBytes / chunkBytes / Math.max(1, wanted.length)));
  const read = await Promise.all(
    wanted.map((stream) => readLogChunks(deps.sql, { attempt: head.attempt, stream, from: query.from[stream], most })),
  );
  const isWaiting = head.state === "queued" || head.state === "offered";
  return {
    head,
    pieces: interleave(read.map((pieces) => ({ pieces, isWhole: pieces.length < most }))),
    final: isFinal(head.state),
    outLength: head.out,
    errLength: head.err,
    state: {
      state: head.state,
      reason: head.reason === "" ? null : head.reason,
      home: isFinal(head.state) ? null : head.home,
      waiting: isWaiting ? await deps.waiting(query.task) : null,
      cancelRequested: head.cancelRequested,
      progress: progressOf(head),
    },
  };
}

function progressOf({ progressAt, progressPercent: percent, progressMessage: message }: LogHead): ProgressView | null {
  if (progressAt === null) return null;
  return { percent, message: message ?? "", at: new Date(progressAt).toISOString() };
}
