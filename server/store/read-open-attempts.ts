// The open rows of one agent at its greeting, and the rows of the attempts it listed: the material of reconciliation.
import { z } from "zod";
import { attemptIdSchema, journalIdSchema, type AgentId, type AttemptId } from "../../shared/ids.ts";
import { taskStates } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({
  attempt: attemptIdSchema,
  state: z.enum(taskStates),
  rank: z.int(),
  journalId: journalIdSchema.nullable(),
  cancelRequested: z.boolean(),
  byAgent: z.boolean(),
  graceMs: z.int(),
});
export type OpenAttempt = z.infer<typeof row>;

const statement = {
  name: "read-open-attempts",
  text: `select a.id as attempt, a.state, a.rank, a.journal_id as "journalId", a.cancel_requested as "cancelRequested",
    a.result is not null as "byAgent", t.grace_ms as "graceMs"
  from attempt a join task t on t.id = a.task_id
  where a.agent_id = $1 and (a.rank in (1, 2, 3) or a.id = any($2::uuid[]))`,
};

export function readOpenAttempts(sql: Sql, agent: AgentId, listed: readonly AttemptId[]): Promise<OpenAttempt[]> {
  return rowsOf(sql, statement, [agent, listed], row);
}
