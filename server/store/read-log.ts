// Stored log of a task's latest attempt from a position on, and where it stands. Pieces of a stream come in order,
// without gaps; a position beyond what is stored answers nothing and waits.
import { z } from "zod";
import { attemptIdSchema, taskIdSchema, type AttemptId, type TaskId } from "../../shared/ids.ts";
import { streams, taskStates, type Stream } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { rowsOf, timeMsOrNull } from "./rows.ts";

const headRow = z.object({
  attempt: attemptIdSchema,
  task: taskIdSchema,
  state: z.enum(taskStates),
  rank: z.int(),
  reason: z.string(),
  home: z.string().nullable(),
  cancelRequested: z.boolean(),
  out: z.number(),
  err: z.number(),
  progressPercent: z.int().nullable(),
  progressMessage: z.string().nullable(),
  progressAt: timeMsOrNull,
});
export type LogHead = z.infer<typeof headRow>;

const heads = {
  name: "read-log-heads",
  text: `select distinct on (a.task_id) a.id as attempt, a.task_id as task, a.state, a.rank, a.reason, n.name as home,
    a.cancel_requested as "cancelRequested", l.out_next as out, l.err_next as err,
    a.progress_percent as "progressPercent", a.progress_message as "progressMessage", a.progress_at as "progressAt"
  from attempt a join attempt_log l on l.attempt_id = a.id left join node n on n.id = a.home_node
  where a.task_id = any($1::uuid[]) order by a.task_id, a.number desc`,
};

/** State and stream ends of many tasks at once: one query serves every follower of this node. */
export function readLogHeads(sql: Sql, tasks: readonly TaskId[]): Promise<LogHead[]> {
  return tasks.length === 0 ? Promise.resolve([]) : rowsOf(sql, heads, [tasks], headRow);
}

const chunkRow = z.object({
  stream: z.int(),
  offset: z.number(),
  length: z.number(),
  at: timeMsOrNull,
  content: z.instanceof(Uint8Array).nullable(),
});

const chunks = {
  name: "read-log-chunks",
  text: `select stream, start_offset as offset, length, seen_at as at, content from log_chunk
  where attempt_id = $1 and stream = $2
    and start_offset >= coalesce((select max(start_offset) from log_chunk where attempt_id = $1 and stream = $2 and start_offset <= $3), 0)
    and start_offset + length > $3
  order by start_offset limit $4`,
};

export interface StoredPiece {
  readonly stream: Stream;
  readonly offset: number;
  readonly content: { readonly bytes: Uint8Array } | { readonly omitted: number };
  /** When the agent saw the first byte, by its calendar; null when it did not say. */
  readonly atMs: number | null;
}

/** Pieces of one stream that end after `from`. */
export async function readLogChunks(
  sql: Sql,
  wanted: { readonly attempt: AttemptId; readonly stream: Stream; readonly from: number; readonly most: number },
): Promise<StoredPiece[]> {
  const { attempt, stream, from, most } = wanted;
  const rows = await rowsOf(sql, chunks, [attempt, streams.indexOf(stream), from, most], chunkRow);
  return rows.map(({ offset, length, at, content }) => ({
    stream,
    offset,
    atMs: at,
    content: content === null ? { omitted: length } : { bytes: content },
  }));
}
