// The agent's journal cannot tell the outcome: `unknown` (never there, though it was accepted) or `collected` (finished,
// acknowledged and forgotten, though the row is open: a database failover lost it). Only rows bound to that journal change.
import type { AgentId, AttemptId, JournalId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";

const statement = {
  name: "lose-attempts",
  text: `
with locked as (
  select id from attempt where id = any($3::uuid[]) and agent_id = $1 and journal_id = $2 and rank = any(case when $4 = 'collected' then '{1,2,3}'::smallint[] else '{2,3}'::smallint[] end) order by id for update),
ended as (
  update attempt a set rank = 9, state = 'lost', reason = case when $4 = 'collected' then 'result-collected' else 'journal-missing' end, finished_at = clock_timestamp()
  from locked l where a.id = l.id returning a.id),
locked_log as (select attempt_id from attempt_log where attempt_id in (select id from ended) order by attempt_id for update)
update attempt_log g set closed = true from locked_log k where g.attempt_id = k.attempt_id`,
};

export interface LostAttempts {
  readonly agent: AgentId;
  readonly journalId: JournalId;
  readonly attempts: readonly AttemptId[];
  readonly answer: "unknown" | "collected";
}

export async function loseAttempts(sql: Sql, lost: LostAttempts): Promise<void> {
  if (lost.attempts.length > 0) await sql.query(statement, [lost.agent, lost.journalId, lost.attempts, lost.answer]);
}
