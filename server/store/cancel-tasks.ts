// Records a person's wish to end tasks. Rank 0 is final at once; from rank 1 on the agent has to confirm (DESIGN 4.8).
import { z } from "zod";
import { agentIdSchema, attemptIdSchema, taskIdSchema, type TaskId } from "../../shared/ids.ts";
import { taskStates } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

export interface CancelActor {
  readonly principal: string;
  readonly address: string;
}

const row = z.object({
  task: taskIdSchema,
  attempt: attemptIdSchema,
  agent: agentIdSchema,
  state: z.enum(taskStates),
  changed: z.boolean(),
});
export type CancelledTask = z.infer<typeof row>;

const statement = {
  name: "cancel-tasks",
  text: `
with locked as (
  select distinct on (task_id) id from attempt where task_id = any($1::uuid[]) order by task_id, number desc),
held as (select a.* from attempt a where a.id in (select id from locked) order by a.id for update),
changed as (
  update attempt a set cancel_requested = true,
    rank = case when h.rank = 0 then 9 else a.rank end,
    state = case when h.rank = 0 then 'cancelled' else a.state end,
    reason = case when h.rank = 0 then 'before-offer' else a.reason end,
    finished_at = case when h.rank = 0 then clock_timestamp() else a.finished_at end
  from held h where a.id = h.id and h.rank < 9 returning a.id, a.state),
locked_log as (
  select attempt_id from attempt_log where attempt_id in (select id from changed where state = 'cancelled') order by attempt_id for update),
closing as (update attempt_log g set closed = true from locked_log k where g.attempt_id = k.attempt_id),
audited as (
  insert into audit (actor, address, action, target, detail)
  select $2, $3, 'cancel', h.task_id::text, jsonb_build_object('state', h.state) from held h where h.rank < 9)
select h.task_id as task, h.id as attempt, h.agent_id as agent, coalesce(c.state, h.state) as state, c.id is not null as changed
from held h left join changed c on c.id = h.id`,
};

export function cancelTasks(sql: Sql, tasks: readonly TaskId[], actor: CancelActor): Promise<CancelledTask[]> {
  return rowsOf(sql, statement, [tasks, actor.principal, actor.address], row);
}
