// Stores submissions with their tasks, first attempts and audit rows in one statement (DESIGN 4.1); one with updates of
// agents has an audit row more, as the act on agents that it is.
// An attempt marked for the fast path is stored already offered, if the agent still has that boot and journal. What would
// make a queue longer than it may be is not stored; a repeat of what was stored before is answered all the same.
import { z } from "zod";
import {
  agentIdSchema,
  attemptIdSchema,
  submissionIdSchema,
  taskIdSchema,
  type AgentId,
  type AttemptId,
  type BootId,
  type JournalId,
  type NodeId,
  type SubmissionId,
  type TaskId,
} from "../../shared/ids.ts";
import { isolationSchema, type Isolation, type Lane } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";
import { summaryColumn } from "./spec-summary.ts";

/** Order among an agent's queued attempts; a person may move one to the top. */
export const bands = { top: 0, high: 1, normal: 2 } as const;

export interface NewTask {
  readonly task: TaskId;
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly lane: Lane;
  /** The spec as JSON text. */
  readonly spec: string;
  /** Default normal. */
  readonly band?: (typeof bands)["high" | "normal"];
  readonly queueMs: number;
  readonly unreachableLimitMs: number;
  readonly secrets?: { readonly names: readonly string[]; readonly sealed: Uint8Array } | undefined;
  /** Set when this node holds credit for the agent and means to offer at once. */
  readonly offer: { readonly bootId: BootId; readonly journalId: JournalId } | undefined;
}

export interface NewSubmission {
  readonly id: SubmissionId;
  readonly principal: string;
  readonly idempotencyKey: string;
  readonly bodySha256: Uint8Array;
  readonly clientAddress: string;
  readonly node: NodeId;
  readonly offerWindowMs: number;
  readonly tasks: readonly NewTask[];
}

export type SubmitOutcome =
  | { readonly kind: "stored"; readonly offered: ReadonlySet<AttemptId> }
  | {
      readonly kind: "repeated";
      readonly id: SubmissionId;
      readonly tasks: readonly { readonly id: TaskId; readonly agent: AgentId }[];
    }
  | { readonly kind: "mismatch" }
  | { readonly kind: "full"; readonly refusal: QueueRefusal };

/** Why a submission does not fit: so much waits, so much more it would add, so much may wait. */
export interface QueueRefusal {
  readonly bound: "agent" | "total";
  /** Whose queue is full; undefined when it is the whole cluster's. */
  readonly agent: AgentId | undefined;
  readonly queued: number;
  readonly wanted: number;
  readonly most: number;
}

/** How much more may wait. */
export interface QueueRoom {
  /** Takes room for each submission that fits, in order, and answers why the others do not. */
  admit(batch: readonly NewSubmission[]): Promise<ReadonlyMap<SubmissionId, QueueRefusal>>;
  /** What became of those let in: each one stored, with the attempts it offered. The room of the others is given back. */
  settle(batch: readonly NewSubmission[], stored: ReadonlyMap<SubmissionId, readonly AttemptId[]>): void;
}

const insert = {
  name: "submit-tasks",
  text: `
with sub as (
  insert into submission (id, principal, idempotency_key, body_sha256, client_address, task_count)
  select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::int[])
    n(id, principal, idempotency_key, body_sha256, client_address, task_count) order by principal, idempotency_key, id
  on conflict do nothing returning id),
item as (
  select i.*, g.status = 'active' and not g.paused and g.boot_id = i.boot_id and g.journal_id = i.journal_id and not c.paused as offered
  from unnest($7::uuid[], $8::uuid[], $9::uuid[], $10::uuid[], $11::text[], $12::int[], $13::bigint[], $14::bigint[], $15::uuid[], $16::uuid[], $19::int[], $20::smallint[], $21::text[], $24::text[], $25::text[], $26::text[])
    with ordinality i(submission_id, task_id, attempt_id, agent_id, lane, spec_no, queue_ms, unreachable_ms, boot_id, journal_id, grace_ms, band, secret_names, lock_name, lock_mode, update_sum, place)
  join sub on sub.id = i.submission_id
  left join agent g on g.id = i.agent_id and i.journal_id is not null
  left join cluster c on true),
new_task as (
  insert into task (id, submission_id, agent_id, lane, spec, summary, grace_ms, lock_name, lock_mode, expires_at, unreachable_limit_ms, secret_names)
  select task_id, submission_id, agent_id, lane, spec, summary, grace_ms, lock_name, lock_mode, clock_timestamp() + make_interval(secs => queue_ms / 1000.0), unreachable_ms,
    string_to_array(secret_names, ',') from item join unnest($27::text[], $28::text[]) with ordinality p(spec, summary, no) on p.no = item.spec_no),
new_secret as (
  insert into task_secret (task_id, sealed)
  select n.task_id, n.sealed from unnest($22::uuid[], $23::bytea[]) n(task_id, sealed) where n.task_id in (select task_id from item)),
new_log as (insert into attempt_log (attempt_id, agent_id) select attempt_id, agent_id from item),
new_attempt as (
  insert into attempt (id, task_id, agent_id, lane, band, rank, state, offer_no, journal_id, offered_by, offer_until, expires_at)
  select attempt_id, task_id, agent_id, lane, band,
    case when offered then 1 else 0 end, case when offered then 'offered' else 'queued' end,
    case when offered then 1 else 0 end, case when offered then journal_id end,
    case when offered then $17::uuid end,
    case when offered then clock_timestamp() + make_interval(secs => $18::float8 / 1000) end,
    clock_timestamp() + make_interval(secs => queue_ms / 1000.0)
  from item order by place),
updating as (
  select submission_id, jsonb_agg(distinct agent_id) as agents, jsonb_agg(distinct update_sum) as sums
  from item where update_sum is not null group by submission_id),
new_audit as (
  insert into audit (actor, address, action, target, detail)
  select principal, client_address, 'submit', id::text, jsonb_build_object('tasks', task_count)
  from unnest($1::uuid[], $2::text[], $5::text[], $6::int[]) r(id, principal, client_address, task_count)
  where r.id in (select id from sub)
  union all
  select principal, client_address, 'agent-update', id::text, jsonb_build_object('agents', u.agents, 'sums', u.sums)
  from updating u join unnest($1::uuid[], $2::text[], $5::text[]) r(id, principal, client_address) on r.id = u.submission_id)
select sub.id, coalesce(array_agg(item.attempt_id) filter (where item.offered), '{}') as offered
from sub left join item on item.submission_id = sub.id group by sub.id`,
};

const earlier = {
  name: "submit-earlier",
  text: `
select s.id, s.principal, s.idempotency_key, s.body_sha256,
  (select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'agent', t.agent_id) order by t.id), '[]') from task t where t.submission_id = s.id) as tasks
from unnest($1::text[], $2::text[]) k(principal, idempotency_key)
join submission s using (principal, idempotency_key)`,
};

const insertedRow = z.object({ id: submissionIdSchema, offered: z.array(attemptIdSchema) });
const earlierRow = z.object({
  id: submissionIdSchema,
  principal: z.string(),
  idempotency_key: z.string(),
  body_sha256: z.instanceof(Uint8Array),
  tasks: z.array(z.object({ id: taskIdSchema, agent: agentIdSchema })),
});

/** Without `room` everything fits. */
export async function submitTasks(
  sql: Sql,
  batch: readonly NewSubmission[],
  room?: QueueRoom,
): Promise<SubmitOutcome[]> {
  const refused = (await room?.admit(batch)) ?? new Map<SubmissionId, QueueRefusal>();
  const admitted = batch.filter((submission) => !refused.has(submission.id));
  let stored: ReadonlyMap<SubmissionId, readonly AttemptId[]> = new Map();
  try {
    if (admitted.length > 0) stored = await store(sql, admitted);
  } finally {
    room?.settle(admitted, stored);
  }
  const missing = batch.filter((submission) => !stored.has(submission.id));
  const found = missing.length === 0 ? [] : await readEarlier(sql, missing);
  return batch.map((submission): SubmitOutcome => {
    const offered = stored.get(submission.id);
    if (offered !== undefined) return { kind: "stored", offered: new Set(offered) };
    const row = found.find(
      (one) => one.principal === submission.principal && one.idempotency_key === submission.idempotencyKey,
    );
    const refusal = refused.get(submission.id);
    if (row === undefined && refusal !== undefined) return { kind: "full", refusal };
    if (row === undefined || Buffer.compare(row.body_sha256, submission.bodySha256) !== 0) return { kind: "mismatch" };
    return { kind: "repeated", id: row.id, tasks: row.tasks };
  });
}

/** The submissions stored now, each with the attempts it offered; those whose key was used before are left out. */
async function store(
  sql: Sql,
  batch: readonly NewSubmission[],
): Promise<ReadonlyMap<SubmissionId, readonly AttemptId[]>> {
  const specs = specsOf(batch);
  const tasks = batch.flatMap((submission) =>
    submission.tasks.map((task) => ({ submission: submission.id, ...task, ...specs.get(task.spec)?.columns })),
  );
  const sealed = tasks.flatMap(({ task, secrets }) =>
    secrets === undefined ? [] : [{ task, sealed: secrets.sealed }],
  );
  const first = batch[0];
  const inserted = await rowsOf(
    sql,
    insert,
    [
      batch.map((submission) => submission.id),
      batch.map((submission) => submission.principal),
      batch.map((submission) => submission.idempotencyKey),
      batch.map((submission) => submission.bodySha256),
      batch.map((submission) => submission.clientAddress),
      batch.map((submission) => submission.tasks.length),
      tasks.map((task) => task.submission),
      tasks.map((task) => task.task),
      tasks.map((task) => task.attempt),
      tasks.map((task) => task.agent),
      tasks.map((task) => task.lane),
      tasks.map((task) => specs.get(task.spec)?.no),
      tasks.map((task) => task.queueMs),
      tasks.map((task) => task.unreachableLimitMs),
      tasks.map((task) => task.offer?.bootId ?? null),
      tasks.map((task) => task.offer?.journalId ?? null),
      first?.node,
      first?.offerWindowMs,
      tasks.map((task) => task.graceMs),
      tasks.map((task) => task.band ?? bands.normal),
      tasks.map((task) => task.secrets?.names.join(",") ?? ""),
      sealed.map(({ task }) => task),
      sealed.map((one) => one.sealed),
      tasks.map((task) => task.lockName),
      tasks.map((task) => task.lockMode),
      tasks.map((task) => task.updateSum),
      [...specs.keys()],
      [...specs.values()].map(({ summary }) => summary),
    ],
    insertedRow,
  );
  return new Map(inserted.map((row) => [row.id, row.offered]));
}

interface SpecColumns {
  readonly graceMs: number;
  readonly lockName: string | null;
  readonly lockMode: Isolation["mode"];
  /** Of the executable, where it is an update of the agent. */
  readonly updateSum: string | null;
}

interface NumberedSpec {
  readonly no: number;
  /** What people are shown of it, where it is large. */
  readonly summary: string | null;
  readonly columns: SpecColumns;
}

const columnsSchema = z.object({
  kind: z.string(),
  graceMs: z.int().default(0),
  isolation: isolationSchema.prefault({}),
  sha256: z.string().optional(),
});

/**
 * Each spec once, with its number in the statement: of a submission to a thousand agents they are one text, and a thousand
 * copies of a script of half a mebibyte took a gibibyte here.
 */
function specsOf(batch: readonly NewSubmission[]): ReadonlyMap<string, NumberedSpec> {
  const specs = new Map<string, NumberedSpec>();
  for (const { spec } of batch.flatMap(({ tasks }) => tasks))
    if (!specs.has(spec)) {
      const raw: unknown = JSON.parse(spec);
      specs.set(spec, { no: specs.size + 1, summary: summaryColumn(spec, raw), columns: columnsOf(raw) });
    }
  return specs;
}

/** What of a spec has columns of its own, so that whoever asks for it never has to read the spec. */
function columnsOf(spec: unknown): SpecColumns {
  const { kind, graceMs, isolation, sha256 } = columnsSchema.parse(spec);
  return {
    graceMs,
    lockName: kind === "script" ? isolation.name : null,
    lockMode: isolation.mode,
    updateSum: kind === "update" ? (sha256 ?? null) : null,
  };
}

/** What an earlier submission with the same principal and key stored; also answers after a COMMIT of unknown outcome. */
export function readEarlier(
  sql: Sql,
  keys: readonly Pick<NewSubmission, "principal" | "idempotencyKey">[],
): Promise<z.infer<typeof earlierRow>[]> {
  return rowsOf(sql, earlier, [keys.map((key) => key.principal), keys.map((key) => key.idempotencyKey)], earlierRow);
}
