// The result of attempts: rank 9 only when both streams are stored to their full length. A second, different result, or
// one for a row the server has ended, is kept in late_result and never changes the verdict: the first of them, for an
// agent could make them up without end. What is not kept is acknowledged all the same. Synchronous.
import { z } from "zod";
import { attemptIdSchema, type AgentId, type AttemptId, type JournalId, type NodeId } from "../../shared/ids.ts";
import { sha256 } from "../../shared/thumbprint.ts";
import type { ResultRecord } from "../../shared/wire/result.ts";
import type { Sql } from "./connection.ts";
import { inOrder, rowsOf, storable } from "./rows.ts";

export interface Finish {
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly journalId: JournalId;
  readonly node: NodeId;
  readonly record: ResultRecord;
}

export type FinishOutcome =
  | { readonly kind: "stored" | "same" | "late" }
  | { readonly kind: "behind"; readonly out: number; readonly err: number; readonly homeNo: number }
  | { readonly kind: "unknown" };

/** Of an attempt; an honest agent has one. Nodes that store one at the same moment may each pass the bound by it. */
export const lateKept = 10;

const statement = {
  name: "finish-attempts",
  text: `
with item as (
  select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::int[], $8::text[], $9::bigint[], $10::bigint[], $11::jsonb[], $12::bytea[])
    i(id, agent_id, journal_id, node_id, state, reason, exit_code, signal, out_length, err_length, result, result_sha256)),
locked as (
  select a.id, a.agent_id, a.journal_id, a.rank, a.result_sha256 from attempt a where a.id in (select id from item) order by a.id for update),
locked_log as (select l.* from attempt_log l where l.attempt_id in (select id from locked) order by l.attempt_id for update),
judged as (
  select i.*, g.out_next, g.err_next, g.home_no,
    case when l.rank = 9 and l.result_sha256 = i.result_sha256 then 'same'
      when l.rank = 9 or l.journal_id <> i.journal_id then 'late'
      when g.out_next < i.out_length or g.err_next < i.err_length then 'behind'
      else 'stored' end as verdict
  from item i join locked l on l.id = i.id and l.agent_id = i.agent_id join locked_log g on g.attempt_id = i.id),
ended as (
  update attempt a set rank = 9, state = j.state, reason = j.reason, exit_code = j.exit_code, signal = j.signal, result = j.result,
    result_sha256 = j.result_sha256, journal_id = j.journal_id, finished_at = clock_timestamp(),
    home_node = coalesce(a.home_node, j.node_id),
    accepted_at = coalesce(a.accepted_at, clock_timestamp()),
    started_at = case when (j.result ->> 'startedAtMs') is null then a.started_at else coalesce(a.started_at, clock_timestamp()) end
  from judged j where a.id = j.id and j.verdict = 'stored'),
closing as (update attempt_log g set closed = true from judged j where g.attempt_id = j.id and j.verdict = 'stored'),
late as (
  insert into late_result (attempt_id, result_sha256, result)
  select id, result_sha256, result from judged
  where verdict = 'late' and (select count(*) from late_result r where r.attempt_id = judged.id) < ${lateKept}
  on conflict do nothing)
select id as attempt, verdict, out_next as out, err_next as err, home_no from judged`,
};

const row = z.object({
  attempt: attemptIdSchema,
  verdict: z.enum(["same", "late", "behind", "stored"]),
  out: z.number(),
  err: z.number(),
  home_no: z.int(),
});

export async function finishAttempts(sql: Sql, items: readonly Finish[]): Promise<FinishOutcome[]> {
  const texts = items.map(({ record }) => textOf(record));
  const rows = await rowsOf(
    sql,
    statement,
    [
      items.map((item) => item.attempt),
      items.map((item) => item.agent),
      items.map((item) => item.journalId),
      items.map((item) => item.node),
      items.map((item) => item.record.outcome),
      items.map((item) => storable(item.record.reason)),
      items.map((item) => item.record.exitCode),
      items.map((item) => (item.record.signal === null ? null : storable(item.record.signal))),
      items.map((item) => item.record.out.length),
      items.map((item) => item.record.err.length),
      texts,
      // A node of an earlier version drops the outputs: a resend through another is no second result.
      items.map(({ record: { outputs: _outputs, ...verdict } }) => sha256(textOf(verdict))),
    ],
    row,
  );
  const outcomes = new Map<string, FinishOutcome>(
    rows.map((found) => [
      found.attempt,
      found.verdict === "behind"
        ? { kind: "behind", out: found.out, err: found.err, homeNo: found.home_no }
        : { kind: found.verdict },
    ]),
  );
  return inOrder(
    items,
    outcomes,
    (item) => item.attempt,
    () => ({ kind: "unknown" }),
  );
}

function textOf(record: ResultRecord): string {
  return JSON.stringify(record, (_key, value: unknown) => (typeof value === "string" ? storable(value) : value));
}
