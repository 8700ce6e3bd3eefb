// A refusal of an offer. `later` clears the window of exactly that offer and keeps rank 1; `never` is final.
// Matches the offer number, so that a late refusal cannot undo a newer offer of another node.
import type { AgentId, AttemptId, JournalId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { storable } from "./rows.ts";

export interface Refusal {
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly journalId: JournalId;
  readonly offerNo: number;
  readonly class: "later" | "never";
  readonly reason: string;
}

const statement = {
  name: "refuse-attempts",
  text: `
with item as (
  select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::text[]) i(id, agent_id, journal_id, offer_no, class, reason)),
locked as (select a.id from attempt a where a.id in (select id from item) order by a.id for update),
changed as (
  update attempt a set
    offer_until = case when i.class = 'later' then clock_timestamp() else a.offer_until end,
    reason = i.reason,
    unanswered = 0,
    rank = case when i.class = 'never' then 9 else a.rank end,
    state = case when i.class = 'never' then 'refused' else a.state end,
    finished_at = case when i.class = 'never' then clock_timestamp() else a.finished_at end
  from item i, locked l
  where a.id = i.id and l.id = a.id and a.agent_id = i.agent_id and a.journal_id = i.journal_id and a.rank = 1
    and (a.offer_no = i.offer_no or i.class = 'never')
  returning a.id, a.rank),
locked_log as (
  select attempt_id from attempt_log where attempt_id in (select id from changed where rank = 9) order by attempt_id for update)
update attempt_log g set closed = true from locked_log k where g.attempt_id = k.attempt_id`,
};

export async function refuseAttempts(sql: Sql, items: readonly Refusal[]): Promise<void> {
  await sql.query(statement, [
    items.map((item) => item.attempt),
    items.map((item) => item.agent),
    items.map((item) => item.journalId),
    items.map((item) => item.offerNo),
    items.map((item) => item.class),
    items.map((item) => storable(item.reason)),
  ]);
}
