// Stores log pieces of many attempts in one statement, on the narrow attempt_log rows only. A piece is stored at exactly
// its stream's next offset, by the attempt's own agent, by a home that is not superseded, while the log is open. Beyond the
// most that one attempt's log may take it is counted only (overflow-log.ts).
// Content travels as one buffer and is cut by the database: measured cheaper than an array of byte strings.
import { z } from "zod";
import type { AgentId, AttemptId } from "../../shared/ids.ts";
import type { Stream } from "../../shared/task.ts";
import { lengthOf, type LogContent } from "../../shared/wire/log.ts";
import type { Sql } from "./connection.ts";
import { overflowLog, standingRow } from "./overflow-log.ts";
import { inOrder, rowsOf } from "./rows.ts";

/** Contiguous pieces of one stream. */
export interface LogRun {
  readonly from: number;
  readonly pieces: readonly LogContent[];
}

export interface LogAppend {
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly homeNo: number;
  readonly runs: Readonly<Partial<Record<Stream, LogRun>>>;
}

export type AppendOutcome =
  | {
      readonly kind: "row";
      readonly next: Readonly<Record<Stream, number>>;
      readonly homeNo: number;
      readonly closed: boolean;
    }
  | { readonly kind: "unknown" };

/** A row of `log_chunk` besides its content, with its place in the index. */
export const logRowBytes = 96;
/** Content and rows of one attempt: nobody reads more, and one attempt must not fill the database. */
export const mostLogBytes = 8 * 1024 ** 3;

const statement = {
  name: "append-log",
  text: `
with item as (
  select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $15::bigint[], $16::bigint[])
    i(attempt_id, agent_id, home_no, out_from, out_to, err_from, err_to, out_bytes, err_bytes)),
locked as (select l.* from attempt_log l where l.attempt_id in (select attempt_id from item) order by l.attempt_id for update),
judged as (
  select i.*, l.out_next, l.err_next, l.home_no as row_home, l.closed, l.stored_bytes >= $17 as is_full,
    l.stored_bytes < $17 and not l.closed and l.home_no <= i.home_no and i.out_to > i.out_from and l.out_next = i.out_from as out_ok,
    l.stored_bytes < $17 and not l.closed and l.home_no <= i.home_no and i.err_to > i.err_from and l.err_next = i.err_from as err_ok
  from item i join locked l on l.attempt_id = i.attempt_id and l.agent_id = i.agent_id),
moved as (
  update attempt_log l set home_no = greatest(l.home_no, j.home_no),
    stored_bytes = l.stored_bytes + case when j.out_ok then j.out_bytes else 0 end + case when j.err_ok then j.err_bytes else 0 end,
    out_next = case when j.out_ok then j.out_to else l.out_next end, err_next = case when j.err_ok then j.err_to else l.err_next end
  from judged j where l.attempt_id = j.attempt_id and (j.out_ok or j.err_ok)),
stored as (
  insert into log_chunk (attempt_id, stream, start_offset, length, seen_at, content)
  select c.attempt_id, c.stream, c.start_offset, c.length, to_timestamp(c.at_ms / 1000.0),
    case when c.place > 0 then substring($13::bytea from c.place for c.length::int) end
  from unnest($8::uuid[], $9::smallint[], $10::bigint[], $11::bigint[], $12::int[], $14::bigint[]) c(attempt_id, stream, start_offset, length, place, at_ms)
  join judged j on j.attempt_id = c.attempt_id and case c.stream when 0 then j.out_ok else j.err_ok end)
select attempt_id as attempt, closed, greatest(row_home, case when closed then 0 else home_no end) as "homeNo",
  case when out_ok then out_to else out_next end as out, case when err_ok then err_to else err_next end as err, is_full and not closed as full
from judged`,
};

const row = standingRow.extend({ full: z.boolean() });

export async function appendLog(sql: Sql, items: readonly LogAppend[]): Promise<AppendOutcome[]> {
  const chunks = items.flatMap((item) => [...chunksOf(item, "out", 0), ...chunksOf(item, "err", 1)]);
  const places: number[] = [];
  const buffers: Uint8Array[] = [];
  let filled = 0;
  for (const { content } of chunks) {
    if ("omitted" in content) places.push(0);
    else {
      places.push(filled + 1);
      buffers.push(content.bytes);
      filled += content.bytes.length;
    }
  }
  const spans = items.map((item) => ({ ...item, out: spanOf(item.runs.out), err: spanOf(item.runs.err) }));
  const rows = await rowsOf(
    sql,
    statement,
    [
      items.map((item) => item.attempt),
      items.map((item) => item.agent),
      items.map((item) => item.homeNo),
      spans.map(({ out }) => out.from),
      spans.map(({ out }) => out.to),
      spans.map(({ err }) => err.from),
      spans.map(({ err }) => err.to),
      chunks.map((chunk) => chunk.attempt),
      chunks.map((chunk) => chunk.stream),
      chunks.map((chunk) => chunk.offset),
      chunks.map((chunk) => lengthOf(chunk.content)),
      places,
      Buffer.concat(buffers, filled),
      chunks.map((chunk) => chunk.content.atMs ?? null),
      items.map((item) => storedBytes(item.runs.out)),
      items.map((item) => storedBytes(item.runs.err)),
      mostLogBytes,
    ],
    row,
  );
  const full = new Set(rows.flatMap((found) => (found.full ? [found.attempt] : [])));
  const over =
    full.size === 0
      ? []
      : await overflowLog(
          sql,
          spans.filter(({ attempt }) => full.has(attempt)),
        );
  const outcomes = new Map<string, AppendOutcome>(
    [...rows, ...over].map(({ attempt, closed, homeNo, out, err }) => [
      attempt,
      { kind: "row", next: { out, err }, homeNo, closed },
    ]),
  );
  return inOrder(
    items,
    outcomes,
    (item) => item.attempt,
    () => ({ kind: "unknown" }),
  );
}

interface Chunk {
  readonly attempt: AttemptId;
  readonly stream: 0 | 1;
  readonly offset: number;
  readonly content: LogContent;
}

function chunksOf(item: LogAppend, stream: Stream, number: 0 | 1): Chunk[] {
  const run = item.runs[stream];
  if (run === undefined) return [];
  let offset = run.from;
  return run.pieces.map((content) => {
    const chunk: Chunk = { attempt: item.attempt, stream: number, offset, content };
    offset += lengthOf(content);
    return chunk;
  });
}

function spanOf(run: LogRun | undefined): { readonly from: number; readonly to: number } {
  const { from, pieces } = run ?? { from: 0, pieces: [] };
  return { from, to: pieces.reduce((end, content) => end + lengthOf(content), from) };
}

function storedBytes(run: LogRun | undefined): number {
  return (run?.pieces ?? []).reduce(
    (sum, content) => sum + logRowBytes + ("bytes" in content ? content.bytes.length : 0),
    0,
  );
}
