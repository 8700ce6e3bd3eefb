// The open rows of an agent at its greeting, and the rows of the attempts it listed: the material of reconciliation. Read
// for many agents at once, since they come back together. Invariant: what is answered was read after it was asked for.
import { z } from "zod";
import { agentIdSchema, attemptIdSchema, journalIdSchema, type AgentId, type AttemptId } from "../../shared/ids.ts";
import { taskStates } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { GroupCommit } from "./group-commit.ts";
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
  text: `
with found as (
  select a.id from unnest($1::uuid[]) g(agent_id) join attempt a on a.agent_id = g.agent_id and a.rank in (1, 2, 3)
  union
  select a.id from unnest($2::uuid[], $3::uuid[]) l(agent_id, id) join attempt a on a.id = l.id and a.agent_id = l.agent_id)
select a.agent_id as agent, a.id as attempt, a.state, a.rank, a.journal_id as "journalId", a.cancel_requested as "cancelRequested",
  a.result is not null as "byAgent", t.grace_ms as "graceMs"
from found f join attempt a on a.id = f.id join task t on t.id = a.task_id`,
};

export interface OpenQuestion {
  readonly agent: AgentId;
  readonly listed: readonly AttemptId[];
}

async function readMany(sql: Sql, questions: readonly OpenQuestion[]): Promise<OpenAttempt[][]> {
  const listed = questions.flatMap((question) => question.listed.map((id) => ({ id, agent: question.agent })));
  const rows = await rowsOf(
    sql,
    statement,
    [questions.map(({ agent }) => agent), listed.map(({ agent }) => agent), listed.map(({ id }) => id)],
    row.extend({ agent: agentIdSchema }),
  );
  const found = new Map<AgentId, OpenAttempt[]>(questions.map(({ agent }) => [agent, []]));
  for (const { agent, ...open } of rows) found.get(agent)?.push(open);
  return questions.map(({ agent }) => found.get(agent) ?? []);
}

export async function readOpenAttempts(sql: Sql, agent: AgentId, listed: readonly AttemptId[]): Promise<OpenAttempt[]> {
  return (await readMany(sql, [{ agent, listed }])).flat();
}

/** As {@link readOpenAttempts}; who asks while a read is under way shares the next one. */
export function createOpenReader(sql: Sql): (question: OpenQuestion) => Promise<OpenAttempt[]> {
  const reads = new GroupCommit<OpenQuestion, OpenAttempt[]>(
    { commit: (questions) => readMany(sql, questions), keyOf: ({ agent }) => agent },
    { largestBatch: 128, capacity: 20_000 },
  );
  return (question) => reads.add(question);
}
