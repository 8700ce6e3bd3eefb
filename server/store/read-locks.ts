// Who holds and who waits for the isolation locks of one agent: read from its open attempts alone, by their index, and
// without specs. What the agent decides is seen as it was told: a script that starts this moment may still show as waiting.
import { z } from "zod";
import { agentIdSchema, attemptIdSchema, taskIdSchema } from "../../shared/ids.ts";
import { isolationModes } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { rowsOf, timeMs } from "./rows.ts";

/** More than an agent's slots and waiting places; an agent beyond it shows the oldest. */
const attemptsShown = 2_000;

const lockRow = z.object({
  lock: z.string(),
  mode: z.enum(isolationModes),
  role: z.enum(["holds", "waits"]),
  task: taskIdSchema,
  attempt: attemptIdSchema,
  /** Since it runs, or since it was accepted. */
  since: timeMs,
  ageMs: z.number(),
});
export type LockRow = z.infer<typeof lockRow>;

const agentRow = z.object({ id: agentIdSchema, name: z.string() });

const find = {
  name: "find-agent-of-locks",
  text: `select id, name from agent where name = $1 or id::text = $1 order by status <> 'removed' desc, id desc limit 1`,
};

export const locksStatement = {
  name: "read-locks",
  text: `
select t.lock_name as lock, t.lock_mode as mode, case when a.rank = 3 then 'holds' else 'waits' end as role,
  a.task_id as task, a.id as attempt, s.since, greatest(0, extract(epoch from clock_timestamp() - s.since) * 1000)::float8 as "ageMs"
from attempt a join task t on t.id = a.task_id
cross join lateral (select coalesce(case when a.rank = 3 then a.started_at else a.accepted_at end, a.created_at)) s(since)
where a.agent_id = $1 and a.rank in (2, 3) and t.lock_name is not null
order by a.rank desc, s.since, a.id limit ${attemptsShown}`,
};

/** Holders first, then those who wait in their order; undefined when there is no such agent. */
export async function readLocks(
  sql: Sql,
  nameOrId: string,
): Promise<{ readonly agent: string; readonly rows: readonly LockRow[] } | undefined> {
  const [agent] = await rowsOf(sql, find, [nameOrId], agentRow);
  if (agent === undefined) return undefined;
  return { agent: agent.name, rows: await rowsOf(sql, locksStatement, [agent.id], lockRow) };
}
