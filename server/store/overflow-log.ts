// What an attempt writes beyond the most its log may take: counted, and not kept. Each stream's overflow is one omission that
// grows, so that a script which writes for weeks still ends with its result, and an agent that means ill stores no more rows.
// Judged like an append: at exactly the stream's next offset, by the attempt's own agent, by a home that is not superseded.
import { z } from "zod";
import { attemptIdSchema, type AgentId, type AttemptId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

export interface LogSpan {
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly homeNo: number;
  readonly out: { readonly from: number; readonly to: number };
  readonly err: { readonly from: number; readonly to: number };
}

const statement = {
  name: "overflow-log",
  text: `
with item as (
  select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    i(attempt_id, agent_id, home_no, out_from, out_to, err_from, err_to)),
locked as (select l.* from attempt_log l where l.attempt_id in (select attempt_id from item) order by l.attempt_id for update),
judged as (
  select i.*, l.out_next, l.err_next, l.home_no as row_home, l.closed,
    not l.closed and l.home_no <= i.home_no and i.out_to > i.out_from and l.out_next = i.out_from as out_ok,
    not l.closed and l.home_no <= i.home_no and i.err_to > i.err_from and l.err_next = i.err_from as err_ok
  from item i join locked l on l.attempt_id = i.attempt_id and l.agent_id = i.agent_id),
moved as (
  update attempt_log l set home_no = greatest(l.home_no, j.home_no),
    out_next = case when j.out_ok then j.out_to else l.out_next end, err_next = case when j.err_ok then j.err_to else l.err_next end
  from judged j where l.attempt_id = j.attempt_id and (j.out_ok or j.err_ok)),
over as (
  select attempt_id, 0::smallint as stream, out_from as at, out_to - out_from as length from judged where out_ok
  union all select attempt_id, 1::smallint, err_from, err_to - err_from from judged where err_ok),
placed as (
  select o.*, c.start_offset as omitted_from from over o left join lateral (
    select start_offset, length, content from log_chunk c where c.attempt_id = o.attempt_id and c.stream = o.stream
    order by start_offset desc limit 1) c on c.content is null and c.start_offset + c.length = o.at),
widened as (
  update log_chunk c set length = c.length + p.length from placed p
  where c.attempt_id = p.attempt_id and c.stream = p.stream and c.start_offset = p.omitted_from),
begun as (
  insert into log_chunk (attempt_id, stream, start_offset, length)
  select attempt_id, stream, at, length from placed where omitted_from is null)
select attempt_id as attempt, closed, greatest(row_home, case when closed then 0 else home_no end) as "homeNo",
  case when out_ok then out_to else out_next end as out, case when err_ok then err_to else err_next end as err
from judged`,
};

/** Where an attempt's streams stand after a write of its log. */
export const standingRow = z.object({
  attempt: attemptIdSchema,
  closed: z.boolean(),
  homeNo: z.int(),
  out: z.number(),
  err: z.number(),
});
export type LogStanding = z.infer<typeof standingRow>;

export function overflowLog(sql: Sql, spans: readonly LogSpan[]): Promise<LogStanding[]> {
  return rowsOf(
    sql,
    statement,
    [
      spans.map(({ attempt }) => attempt),
      spans.map(({ agent }) => agent),
      spans.map(({ homeNo }) => homeNo),
      spans.map(({ out }) => out.from),
      spans.map(({ out }) => out.to),
      spans.map(({ err }) => err.from),
      spans.map(({ err }) => err.to),
    ],
    standingRow,
  );
}
