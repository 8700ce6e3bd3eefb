// The agent moves attempts' homes to this node. A number not greater than the row's changes nothing; the answer says
// where each stream stands, so that the agent sends on from there.
import { z } from "zod";
import { attemptIdSchema, type AgentId, type AttemptId, type JournalId, type NodeId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { inOrder, rowsOf } from "./rows.ts";

export interface ResumeHome {
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly journalId: JournalId;
  readonly node: NodeId;
  readonly homeNo: number;
}

export type ResumeOutcome =
  | {
      readonly kind: "row";
      readonly homeNo: number;
      readonly out: number;
      readonly err: number;
      readonly final: boolean;
      readonly byAgent: boolean;
    }
  | { readonly kind: "unknown" };

const statement = {
  name: "resume-attempts",
  text: `
with item as (select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[]) i(id, agent_id, journal_id, node_id, home_no)),
locked as (
  select a.id, a.rank, a.result is not null as by_agent from attempt a join item i on i.id = a.id
  where a.agent_id = i.agent_id and (a.journal_id is null or a.journal_id = i.journal_id) order by a.id for update of a),
locked_log as (select g.* from attempt_log g where g.attempt_id in (select id from locked) order by g.attempt_id for update),
moving as (
  select i.*, l.rank from item i join locked l on l.id = i.id join locked_log g on g.attempt_id = i.id
  where not g.closed and g.home_no < i.home_no),
moved as (update attempt_log g set home_no = m.home_no from moving m where g.attempt_id = m.id),
shown as (
  update attempt a set home_node = m.node_id, journal_id = m.journal_id, rank = greatest(a.rank, 2),
    state = case when a.rank < 2 then 'accepted' else a.state end, accepted_at = coalesce(a.accepted_at, clock_timestamp())
  from moving m where a.id = m.id and a.rank < 9)
select l.id as attempt, greatest(g.home_no, coalesce(m.home_no, 0)) as home_no, g.out_next as out, g.err_next as err,
  l.rank = 9 as final, l.by_agent
from locked l join locked_log g on g.attempt_id = l.id left join moving m on m.id = l.id`,
};

const row = z.object({
  attempt: attemptIdSchema,
  home_no: z.int(),
  out: z.number(),
  err: z.number(),
  final: z.boolean(),
  by_agent: z.boolean(),
});

export async function resumeAttempts(sql: Sql, items: readonly ResumeHome[]): Promise<ResumeOutcome[]> {
  const rows = await rowsOf(
    sql,
    statement,
    [
      items.map((item) => item.attempt),
      items.map((item) => item.agent),
      items.map((item) => item.journalId),
      items.map((item) => item.node),
      items.map((item) => item.homeNo),
    ],
    row,
  );
  const outcomes = new Map<string, ResumeOutcome>(
    rows.map((found) => [
      found.attempt,
      {
        kind: "row",
        homeNo: found.home_no,
        out: found.out,
        err: found.err,
        final: found.final,
        byAgent: found.by_agent,
      },
    ]),
  );
  return inOrder(
    items,
    outcomes,
    (item) => item.attempt,
    () => ({ kind: "unknown" }),
  );
}
