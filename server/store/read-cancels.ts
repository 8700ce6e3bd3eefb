// Cancels not yet confirmed, for the agents with a session here: each node repeats them until the result arrives. What a
// person gave up is final already; its agent is asked for an hour, until its own word on it arrives, and at each greeting. One
// whose result said `kill-incomplete` has nothing to add: it is asked for a minute, to let go of slot and lock.
import { z } from "zod";
import { agentIdSchema, attemptIdSchema, type AgentId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { idArray } from "./id-array.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({ attempt: attemptIdSchema, agent: agentIdSchema, graceMs: z.int(), abandoned: z.boolean() });
export type PendingCancel = z.infer<typeof row>;

const statement = {
  name: "read-cancels",
  text: `select a.id as attempt, a.agent_id as agent, t.grace_ms as "graceMs", false as abandoned
  from attempt a join task t on t.id = a.task_id
  where a.agent_id = any($1::uuid[]) and a.cancel_requested and a.rank in (1, 2, 3)
  union all
  select a.id, a.agent_id, t.grace_ms, true
  from abandoned_attempt b join attempt a on a.id = b.attempt_id join task t on t.id = a.task_id
  where b.agent_id = any($1::uuid[]) and case when a.state <> 'abandoned' then b.abandoned_at > clock_timestamp() - interval '1 minute'
    else a.finished_at > clock_timestamp() - interval '1 hour' and not exists (select from late_result r where r.attempt_id = a.id) end
  order by attempt limit 10000`,
};

export function readCancels(sql: Sql, agents: readonly AgentId[]): Promise<PendingCancel[]> {
  return agents.length === 0 ? Promise.resolve([]) : rowsOf(sql, statement, [idArray(agents)], row);
}
