// The agent's journal cannot tell the outcome: `unknown` (never there, though it was accepted) or `collected` (finished,
// acknowledged and forgotten, though the row is open: a database failover lost it). Only rows bound to that journal change.
import type { AgentId, AttemptId, JournalId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";

const statement = {
  name: "lose-attempts",
  text: `
with item as (select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[]) i(id, agent_id, journal_id, answer)),
locked as (
  select a.id, i.answer from item i join attempt a on a.id = i.id and a.agent_id = i.agent_id and a.journal_id = i.journal_id
  where a.rank = any(case when i.answer = 'collected' then '{1,2,3}'::smallint[] else '{2,3}'::smallint[] end) order by a.id for update of a),
ended as (
  update attempt a set rank = 9, state = 'lost', reason = case when l.answer = 'collected' then 'result-collected' else 'journal-missing' end, finished_at = clock_timestamp()
  from locked l where a.id = l.id returning a.id),
locked_log as (select attempt_id from attempt_log where attempt_id in (select id from ended) order by attempt_id for update)
update attempt_log g set closed = true from locked_log k where g.attempt_id = k.attempt_id`,
};

export interface LostAttempt {
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly journalId: JournalId;
  readonly answer: "unknown" | "collected";
}

export interface LostAttempts extends Omit<LostAttempt, "attempt"> {
  readonly attempts: readonly AttemptId[];
}

export async function loseAttempts(sql: Sql, items: readonly LostAttempt[]): Promise<void> {
  await sql.query(statement, [
    items.map((item) => item.attempt),
    items.map((item) => item.agent),
    items.map((item) => item.journalId),
    items.map((item) => item.answer),
  ]);
}
