// accept and started in one verb: raises an attempt to rank 2 or 3 and sets its home. Committed without waiting for the
// disk: the agent's journal is the truth, and any later message of the agent implies what was lost.
// Locks attempt, then attempt log, each in id order. The answer is taken from the locked rows: a join with the tables
// would show them as they were before this statement waited for its locks.
import { z } from "zod";
import { attemptIdSchema, type AgentId, type AttemptId, type JournalId, type NodeId } from "../../shared/ids.ts";
import { taskStates } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { inOrder, rowsOf } from "./rows.ts";

export interface Progress {
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly journalId: JournalId;
  /** Null when another session is the home: the rank is raised, the home stays. */
  readonly node: NodeId | null;
  readonly homeNo: number;
  readonly reached: "accepted" | "running";
}

/** The row after the write, whether or not this write changed it; the caller turns it into a verdict. */
export type RowView =
  | {
      readonly kind: "row";
      readonly state: (typeof taskStates)[number];
      readonly cancelRequested: boolean;
      readonly graceMs: number;
      readonly byAgent: boolean;
      readonly homeNo: number;
      readonly out: number;
      readonly err: number;
    }
  | { readonly kind: "unknown" };

const statement = {
  name: "progress-attempts",
  text: `
with item as (
  select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::int[]) i(id, agent_id, journal_id, node_id, home_no, rank)),
locked as (
  select a.id, a.rank, a.state, a.journal_id, a.agent_id, a.task_id, a.cancel_requested, a.result is not null as by_agent
  from attempt a where a.id in (select id from item) order by a.id for update),
own as (
  select i.*, l.rank as old_rank, l.state as old_state, l.task_id, l.cancel_requested, l.by_agent from item i join locked l on l.id = i.id
  where l.agent_id = i.agent_id and (l.journal_id is null or l.journal_id = i.journal_id)),
locked_log as (
  select g.* from attempt_log g where g.attempt_id in (select id from own) order by g.attempt_id for update),
home as (
  update attempt_log g set home_no = greatest(g.home_no, o.home_no) from own o, locked_log k
  where g.attempt_id = o.id and k.attempt_id = o.id and not k.closed and k.home_no < o.home_no returning g.attempt_id),
raised as (
  update attempt a set rank = greatest(a.rank, o.rank), state = case when o.rank = 3 or a.rank = 3 then 'running' else 'accepted' end,
    journal_id = o.journal_id,
    home_node = case when o.node_id is not null and o.home_no >= k.home_no then o.node_id else a.home_node end,
    accepted_at = coalesce(a.accepted_at, clock_timestamp()),
    started_at = case when o.rank = 3 then coalesce(a.started_at, clock_timestamp()) else a.started_at end
  from own o join locked_log k on k.attempt_id = o.id
  where a.id = o.id and o.old_rank < 9 and (o.old_rank < o.rank or o.home_no > k.home_no)
  returning a.id, a.state)
select o.id as attempt, coalesce(r.state, o.old_state) as state, o.cancel_requested, o.by_agent,
  case when k.closed then k.home_no else greatest(k.home_no, o.home_no) end as home_no, k.out_next as out, k.err_next as err,
  t.grace_ms as grace_ms
from own o join locked_log k on k.attempt_id = o.id join task t on t.id = o.task_id left join raised r on r.id = o.id`,
};

const row = z.object({
  attempt: attemptIdSchema,
  state: z.enum(taskStates),
  cancel_requested: z.boolean(),
  by_agent: z.boolean(),
  home_no: z.int(),
  out: z.number(),
  err: z.number(),
  grace_ms: z.int(),
});

export async function progressAttempts(sql: Sql, items: readonly Progress[]): Promise<RowView[]> {
  const rows = await rowsOf(
    sql,
    statement,
    [
      items.map((item) => item.attempt),
      items.map((item) => item.agent),
      items.map((item) => item.journalId),
      items.map((item) => item.node),
      items.map((item) => item.homeNo),
      items.map((item) => (item.reached === "running" ? 3 : 2)),
    ],
    row,
  );
  const views = new Map<string, RowView>(
    rows.map((found) => [
      found.attempt,
      {
        kind: "row",
        state: found.state,
        cancelRequested: found.cancel_requested,
        graceMs: found.grace_ms,
        byAgent: found.by_agent,
        homeNo: found.home_no,
        out: found.out,
        err: found.err,
      },
    ]),
  );
  return inOrder(
    items,
    views,
    (item) => item.attempt,
    () => ({ kind: "unknown" }),
  );
}
