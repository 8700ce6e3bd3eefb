// Tasks as people read them: the task, its attempts, what a queued one waits for, and of its spec what is shown of it, in one
// statement as a rule (spec-summary.ts). list-tasks.ts reads pages of them.
// Reads the primary, so that a client never sees a lower rank after a higher one.
import { z } from "zod";
import {
  agentIdSchema,
  attemptIdSchema,
  submissionIdSchema,
  taskIdSchema,
  type SubmissionId,
  type TaskId,
} from "../../shared/ids.ts";
import { outputVariablesSchema } from "../../shared/output-variables.ts";
import { laneSchema, outcomes, taskStates } from "../../shared/task.ts";
import type { Sql, Statement } from "./connection.ts";
import { lateKept } from "./finish-attempts.ts";
import { rowsOf, timeMs, timeMsOrNull } from "./rows.ts";
import { goneSpec, readSummaries, summaryColumns, summaryRow, type ShownSpec } from "./spec-summary.ts";

const lateRow = z.object({
  receivedAt: z.string(),
  outcome: z.enum(outcomes),
  reason: z.string(),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
});

const attemptRow = z.object({
  id: attemptIdSchema,
  number: z.int(),
  state: z.enum(taskStates),
  reason: z.string(),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  home: z.string().nullable(),
  offers: z.int(),
  cancelRequested: z.boolean(),
  createdAt: z.string(),
  acceptedAt: z.string().nullable(),
  startedAt: z.string().nullable(),
  finishedAt: z.string().nullable(),
  outBytes: z.number(),
  errBytes: z.number(),
  progress: z.object({ percent: z.int().nullable(), message: z.string(), at: z.string() }).nullable(),
  late: z.array(lateRow),
  /** Null in listings, where they would be too much, and where there are none. */
  outputs: outputVariablesSchema.nullable(),
});

const taskRow = z.object({
  id: taskIdSchema,
  submission: submissionIdSchema,
  agent: agentIdSchema,
  agentName: z.string(),
  agentStatus: z.string(),
  lane: laneSchema,
  ...summaryRow,
  secretNames: z.array(z.string()),
  createdAt: timeMs,
  attempts: z.array(attemptRow).min(1),
  agentLastSeenAt: timeMsOrNull,
  /** Live nodes that hold a session with the agent. */
  nodes: z.array(z.object({ name: z.string(), draining: z.boolean(), active: z.int(), cap: z.int() })),
  agentPaused: z.boolean(),
  lock: z.string().nullable(),
  /** Of an accepted task: whether it has waited for a second, and what it waits for, when that is a lock. */
  line: z
    .object({
      long: z.boolean(),
      before: z.object({ task: taskIdSchema, rank: z.int(), since: z.string().nullable() }).nullable(),
    })
    .nullable(),
  paused: z.boolean(),
});
type Found = z.infer<typeof taskRow>;
export type TaskRow = Omit<Found, keyof typeof summaryRow> & { readonly spec: ShownSpec };

/** From `task t`, up to its conditions. */
export const columnsWith = (outputs: string): string => `
select t.id, t.submission_id as submission, t.agent_id as agent, coalesce(g.name, '') as "agentName", coalesce(g.status, 'removed') as "agentStatus",
  t.lane, ${summaryColumns}, t.secret_names as "secretNames", t.created_at as "createdAt", g.last_seen_at as "agentLastSeenAt", c.paused, coalesce(g.paused, false) as "agentPaused", t.lock_name as lock,
  (select coalesce(jsonb_agg(jsonb_build_object('name', n.name, 'draining', n.draining or n.drain <> 'none', 'active', n.active, 'cap', n.task_cap) order by n.name), '[]') from presence p join node n on n.id = p.node_id and n.boot_id = p.node_boot_id
    where p.agent_id = t.agent_id and n.heartbeat_at > clock_timestamp() - interval '15 seconds') as nodes,
  (select jsonb_agg(jsonb_build_object('id', a.id, 'number', a.number, 'state', a.state, 'reason', a.reason, 'exitCode', a.exit_code,
      'signal', a.signal, 'home', n.name, 'offers', a.offer_no, 'cancelRequested', a.cancel_requested, 'createdAt', a.created_at,
      'acceptedAt', a.accepted_at, 'startedAt', a.started_at, 'finishedAt', a.finished_at,
      'outBytes', coalesce(l.out_next, 0), 'errBytes', coalesce(l.err_next, 0), 'outputs', ${outputs},
      'progress', case when a.progress_at is not null then jsonb_build_object('percent', a.progress_percent, 'message', a.progress_message, 'at', a.progress_at) end, 'late', (
        select coalesce(jsonb_agg(jsonb_build_object('receivedAt', r.received_at, 'outcome', r.result -> 'outcome', 'reason', r.result -> 'reason',
          'exitCode', r.result -> 'exitCode', 'signal', r.result -> 'signal') order by r.received_at), '[]')
        from (select * from late_result where attempt_id = a.id order by received_at limit ${lateKept}) r)) order by a.number)
    from attempt a left join attempt_log l on l.attempt_id = a.id left join node n on n.id = a.home_node where a.task_id = t.id) as attempts,
  (select jsonb_build_object('long', w.accepted_at < clock_timestamp() - interval '1 second', 'before', (
      select jsonb_build_object('task', b.task_id, 'rank', b.rank, 'since', b.started_at)
      from attempt b join task u on u.id = b.task_id
      where b.agent_id = w.agent_id and b.rank in (2, 3) and b.id <> w.id and u.lock_name = t.lock_name
        and (u.lock_mode = 'full' or t.lock_mode = 'full') and (b.rank = 3 or (b.accepted_at, b.id) < (w.accepted_at, w.id))
      order by b.rank desc, b.started_at, b.accepted_at, b.id limit 1))
    from attempt w where w.task_id = t.id and w.rank = 2) as line
from task t left join agent g on g.id = t.agent_id cross join cluster c`;

/** `statement` selects `columnsWith`. */
export async function taskRows(sql: Sql, statement: Statement, values: readonly unknown[]): Promise<TaskRow[]> {
  const found = await rowsOf(sql, statement, values, taskRow);
  const specs = await readSummaries(sql, found);
  return found.map((row) => ({ ...row, spec: specs.get(row.id) ?? goneSpec }));
}

const one = { name: "read-task", text: `${columnsWith("a.result -> 'outputs'")} where t.id = $1` };
export async function readTask(sql: Sql, id: TaskId): Promise<TaskRow | undefined> {
  const [row] = await taskRows(sql, one, [id]);
  // On a page it keeps its place; by itself it is gone.
  return row?.spec === goneSpec ? undefined : row;
}

const submissionRow = z.object({
  id: submissionIdSchema,
  principal: z.string(),
  address: z.string(),
  createdAt: timeMs,
  tasks: z.array(z.object({ id: taskIdSchema, agent: z.string(), state: z.enum(taskStates) })),
});
export type SubmissionRow = z.infer<typeof submissionRow>;

const submission = {
  name: "read-submission",
  text: `select s.id, coalesce(k.name, s.principal) as principal, s.client_address as address, s.created_at as "createdAt",
    (select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'agent', coalesce(g.name, ''), 'state',
        (select a.state from attempt a where a.task_id = t.id order by a.number desc limit 1)) order by t.id), '[]')
      from task t left join agent g on g.id = t.agent_id where t.submission_id = s.id) as tasks
  from submission s left join api_key k on k.id::text = s.principal where s.id = $1`,
};

export async function readSubmission(sql: Sql, id: SubmissionId): Promise<SubmissionRow | undefined> {
  return (await rowsOf(sql, submission, [id], submissionRow))[0];
}
