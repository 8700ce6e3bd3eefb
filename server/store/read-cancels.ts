// Cancels not yet confirmed, for the agents with a session here: each node repeats them until the result arrives.
import { z } from "zod";
import { agentIdSchema, attemptIdSchema, type AgentId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({ attempt: attemptIdSchema, agent: agentIdSchema, graceMs: z.int() });
export type PendingCancel = z.infer<typeof row>;

const statement = {
  name: "read-cancels",
  text: `select a.id as attempt, a.agent_id as agent, t.grace_ms as "graceMs"
  from attempt a join task t on t.id = a.task_id
  where a.agent_id = any($1::uuid[]) and a.cancel_requested and a.rank in (1, 2, 3) order by a.id limit 10000`,
};

export function readCancels(sql: Sql, agents: readonly AgentId[]): Promise<PendingCancel[]> {
  return agents.length === 0 ? Promise.resolve([]) : rowsOf(sql, statement, [agents], row);
}
