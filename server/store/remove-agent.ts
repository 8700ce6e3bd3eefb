// Takes an agent out of the cluster for good (DESIGN 4.10): its row stays as a tombstone, its name is free again, its
// certificates count no more, what was queued is cancelled and what it may have started is lost. One statement, durable,
// with its audit row; locks agent, certificates, attempts and their logs, in this order and each by id.
// What a submission or a claim stores at the same moment is unseen here: the sweep ends it (sweep-attempts.ts).
import { z } from "zod";
import { agentIdSchema, taskIdSchema, type AgentId, type TaskId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

/** Attempts ended with the agent itself, so that one statement stays far from its 10 s; the sweep ends the rest. */
const attemptsAtOnce = 10_000;

const statement = {
  name: "remove-agent",
  plan: "each-time",
  text: `
with target as materialized (
  select id from agent where status <> 'removed' and (name = $1 or id = $2::uuid)
  order by id = $2::uuid desc nulls last limit 1 for update),
removed as (
  update agent g set status = 'removed', status_reason = 'removed by ' || $3, removed_at = clock_timestamp()
  from target t where g.id = t.id returning g.id, g.name),
held as (
  select thumbprint from agent_certificate where agent_id in (select id from removed) and status <> 'revoked' order by thumbprint for update),
certificates as (update agent_certificate c set status = 'revoked' from held h where c.thumbprint = h.thumbprint),
open as (
  select o.id from removed g cross join lateral (
    select id from attempt where agent_id = g.id and rank = 0
    union all
    select id from attempt where agent_id = g.id and rank in (1, 2, 3)) o limit $5),
locked as (select a.id, a.rank from attempt a where a.id in (select id from open) and a.rank < 9 order by a.id for update),
ended as (
  update attempt a set rank = 9, state = case when l.rank = 0 then 'cancelled' else 'lost' end, reason = 'agent-removed',
    finished_at = clock_timestamp()
  from locked l where a.id = l.id returning a.id, a.task_id, a.state),
locked_log as (select attempt_id from attempt_log where attempt_id in (select id from ended) order by attempt_id for update),
closing as (update attempt_log g set closed = true from locked_log k where g.attempt_id = k.attempt_id),
audited as (
  insert into audit (actor, address, action, target, detail)
  select $3, $4, 'agent-remove', id::text, jsonb_build_object('name', name,
    'cancelled', (select count(*) from ended where state = 'cancelled'), 'lost', (select count(*) from ended where state = 'lost'))
  from removed)
select r.id, (select coalesce(array_agg(task_id), '{}') from ended) as tasks from removed r`,
} as const;

const row = z.object({ id: agentIdSchema, tasks: z.array(taskIdSchema) });

export interface RemovedAgent {
  readonly id: AgentId;
  /** Tasks that ended with it. */
  readonly tasks: readonly TaskId[];
}

/** Undefined when there is none to remove. An id wins over a name that looks like one. */
export async function removeAgent(
  sql: Sql,
  input: { readonly nameOrId: string; readonly principal: string; readonly address: string },
): Promise<RemovedAgent | undefined> {
  const id = agentIdSchema.safeParse(input.nameOrId).data ?? null;
  const values = [input.nameOrId, id, input.principal, input.address, attemptsAtOnce];
  return (await rowsOf(sql, statement, values, row))[0];
}
