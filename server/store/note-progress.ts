// How far running scripts say they are: overwritten, for people, committed without waiting for the disk. Locks attempts in
// id order, and none that is not the agent's own: it may name what it likes. Invariant: only an attempt that is this journal's and not final, and only its newest home, changes anything, and
// `progress_at` is when the words changed, not when they were said again.
import type { AgentId, AttemptId, JournalId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { storable } from "./rows.ts";

export interface ProgressNote {
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly journalId: JournalId;
  readonly homeNo: number;
  readonly percent: number | null;
  readonly message: string;
}

// Offered counts too: the acceptance may still be on its way to the database by another line.
const statement = {
  name: "note-progress",
  text: `
with item as (
  select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::smallint[], $6::text[])
    i(id, agent_id, journal_id, home_no, percent, message)),
locked as (
  select a.id, a.agent_id, a.journal_id, a.rank, a.progress_at, a.progress_percent, a.progress_message
  from attempt a where (a.id, a.agent_id, a.journal_id) in (select id, agent_id, journal_id from item) and a.rank in (1, 2, 3)
  order by a.id for update)
update attempt a set progress_percent = i.percent, progress_message = i.message, progress_at = clock_timestamp()
from item i join locked l on l.id = i.id join attempt_log g on g.attempt_id = i.id
where a.id = i.id and l.agent_id = i.agent_id and l.journal_id = i.journal_id and l.rank in (1, 2, 3) and g.home_no <= i.home_no
  and (l.progress_at is null or (l.progress_percent, l.progress_message) is distinct from (i.percent, i.message))`,
};

export async function noteProgress(sql: Sql, notes: readonly ProgressNote[]): Promise<void> {
  await sql.query(statement, [
    notes.map((note) => note.attempt),
    notes.map((note) => note.agent),
    notes.map((note) => note.journalId),
    notes.map((note) => note.homeNo),
    notes.map((note) => note.percent),
    notes.map((note) => storable(note.message)),
  ]);
}
