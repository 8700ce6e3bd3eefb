// A person moves a queued task before all others of its agent: band 0. Among those moved the older stays first.
import { z } from "zod";
import { agentIdSchema, type AgentId, type TaskId } from "../../shared/ids.ts";
import { taskStates } from "../../shared/task.ts";
import type { CancelActor } from "./cancel-tasks.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({ agent: agentIdSchema, state: z.enum(taskStates), moved: z.boolean() });
export interface MovedTask {
  readonly agent: AgentId;
  readonly state: (typeof taskStates)[number];
  /** False when it is not queued any more. */
  readonly moved: boolean;
}

const statement = {
  name: "move-task",
  text: `
with latest as (select id from attempt where task_id = $1 order by number desc limit 1),
held as (select a.* from attempt a where a.id in (select id from latest) for update),
changed as (update attempt a set band = 0 from held h where a.id = h.id and h.rank = 0 returning a.id),
audited as (
  insert into audit (actor, address, action, target) select $2, $3, 'move-to-top', h.task_id::text from held h where h.rank = 0)
select h.agent_id as agent, h.state, c.id is not null as moved from held h left join changed c on c.id = h.id`,
};

/** Undefined when there is no such task. */
export async function moveTaskToTop(sql: Sql, task: TaskId, actor: CancelActor): Promise<MovedTask | undefined> {
  return (await rowsOf(sql, statement, [task, actor.principal, actor.address], row))[0];
}
