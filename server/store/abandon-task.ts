// A person gives a task up (DESIGN 4.8): from rank 1 on it is final at once as `abandoned`, though it may still run; the
// wish to cancel is recorded with it, so that whatever the agent says of it later is answered with a cancel, and for an hour
// the agent is asked like for any cancel (read-cancels.ts).
// What could not be killed (`kill-incomplete`) keeps its slot and its lock on the agent: of such a task, final already, the
// wish is only passed on.
// No agent knows of rank 0: nothing may still run there, so that one is plainly cancelled. Durable.
import { z } from "zod";
import { agentIdSchema, attemptIdSchema, type TaskId } from "../../shared/ids.ts";
import { taskStates } from "../../shared/task.ts";
import type { CancelActor } from "./cancel-tasks.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({
  attempt: attemptIdSchema,
  agent: agentIdSchema,
  state: z.enum(taskStates),
  changed: z.boolean(),
  graceMs: z.int(),
  /** It ended before with processes left, which hold slot and lock: its agent is told to let go. */
  letGo: z.boolean(),
});
export type AbandonedTask = z.infer<typeof row>;

const statement = {
  name: "abandon-task",
  text: `
with latest as (select id from attempt where task_id = $1 order by number desc limit 1),
held as (select a.*, a.rank = 9 and a.reason like 'kill-incomplete%' as let_go from attempt a where a.id in (select id from latest) for update),
changed as (
  update attempt a set rank = 9, cancel_requested = true, finished_at = clock_timestamp(),
    state = case when h.rank = 0 then 'cancelled' else 'abandoned' end,
    reason = case when h.rank = 0 then 'before-offer' else 'may-still-run' end
  from held h where a.id = h.id and h.rank < 9 returning a.id, a.state),
locked_log as (select attempt_id from attempt_log where attempt_id in (select id from changed) for update),
closing as (update attempt_log g set closed = true from locked_log k where g.attempt_id = k.attempt_id),
asked as (
  insert into abandoned_attempt (attempt_id, agent_id)
  select h.id, h.agent_id from held h left join changed c on c.id = h.id where h.let_go or (c.id is not null and h.rank > 0)
  on conflict (attempt_id) do update set abandoned_at = excluded.abandoned_at),
old as (
  select attempt_id from abandoned_attempt where abandoned_at < clock_timestamp() - interval '2 hours' limit 1000 for update skip locked),
forgotten as (delete from abandoned_attempt b using old where b.attempt_id = old.attempt_id),
audited as (
  insert into audit (actor, address, action, target, detail)
  select $2, $3, 'abandon', h.task_id::text, jsonb_build_object('state', h.state) from held h where h.rank < 9 or h.let_go)
select h.id as attempt, h.agent_id as agent, coalesce(c.state, h.state) as state, c.id is not null as changed, t.grace_ms as "graceMs", h.let_go as "letGo"
from held h join task t on t.id = h.task_id left join changed c on c.id = h.id`,
};

/** The task's latest attempt as it is then; undefined when there is no such task. */
export async function abandonTask(sql: Sql, task: TaskId, actor: CancelActor): Promise<AbandonedTask | undefined> {
  return (await rowsOf(sql, statement, [task, actor.principal, actor.address], row))[0];
}
