// A person has a task tried once more: the next attempt, only when the latest one is final (invariant I5), with the queue
// time the task was submitted with and before the same others as the attempt before it. Locks agent, then the latest
// attempt. Durable; nothing retries by itself.
import { z } from "zod";
import { agentIdSchema, attemptIdSchema, type AttemptId, type TaskId } from "../../shared/ids.ts";
import { taskStates } from "../../shared/task.ts";
import type { CancelActor } from "./cancel-tasks.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({
  agent: agentIdSchema,
  agentName: z.string(),
  agentStatus: z.enum(["active", "quarantined", "revoked", "removed"]),
  /** Of the attempt that was the latest before. */
  state: z.enum(taskStates),
  retried: z.boolean(),
  /** It had secrets, and they are kept no longer: another attempt could not run. */
  lacksSecrets: z.boolean(),
  /** The latest attempt now. */
  attempt: attemptIdSchema,
  number: z.int(),
});
export type RetriedTask = z.infer<typeof row>;

const statement = {
  name: "retry-task",
  text: `
with it as (
  select *, secret_names <> '{}' and not exists (select from task_secret where task_id = $1) as lacks_secrets from task where id = $1),
owner as (select g.id, g.name, g.status from agent g join it on it.agent_id = g.id for update of g),
last as (select id from attempt where task_id = $1 order by number desc limit 1),
held as (select a.* from attempt a, owner where a.id in (select id from last) for update of a),
made as (
  insert into attempt (id, task_id, agent_id, number, lane, band, expires_at)
  select $2, it.id, it.agent_id, held.number + 1, it.lane, held.band, clock_timestamp() + (it.expires_at - it.created_at)
  from it, held, owner where held.rank = 9 and owner.status = 'active' and not it.lacks_secrets
  on conflict do nothing returning id, number),
new_log as (insert into attempt_log (attempt_id, agent_id) select made.id, it.agent_id from made, it),
audited as (
  insert into audit (actor, address, action, target, detail)
  select $3, $4, 'retry', $1::uuid::text, jsonb_build_object('attempt', made.number) from made)
select owner.id as agent, owner.name as "agentName", owner.status as "agentStatus", held.state,
  made.id is not null as retried, it.lacks_secrets as "lacksSecrets", coalesce(made.id, held.id) as attempt, coalesce(made.number, held.number) as number
from held cross join owner cross join it left join made on true`,
};

/** Undefined when there is no such task. */
export async function retryTask(
  sql: Sql,
  input: { readonly task: TaskId; readonly attempt: AttemptId },
  actor: CancelActor,
): Promise<RetriedTask | undefined> {
  return (await rowsOf(sql, statement, [input.task, input.attempt, actor.principal, actor.address], row))[0];
}
