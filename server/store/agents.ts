// Agent rows: what people list and select, and the positive list of certificates that every connection is checked against.
import { z } from "zod";
import { agentIdSchema, type AgentId } from "../../shared/ids.ts";
import { labelsSchema } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { GroupCommit } from "./group-commit.ts";
import { rowsOf, timeMs, timeMsOrNull } from "./rows.ts";

const agentStatus = z.enum(["active", "quarantined", "revoked", "removed"]);
const presentNode = z.object({
  name: z.string(),
  live: z.boolean(),
  since: z.string().nullable(),
  roundTripUs: z.number().nullable(),
  draining: z.boolean(),
  refusal: z.object({ reason: z.string(), at: z.string() }).nullable(),
});

const agentRow = z.object({
  id: agentIdSchema,
  name: z.string(),
  labels: labelsSchema,
  status: agentStatus,
  paused: z.boolean(),
  slots: z.int().nullable(),
  version: z.string(),
  host: z.record(z.string(), z.unknown()),
  createdAt: timeMs,
  lastSeenAt: timeMsOrNull,
  nodes: z.array(presentNode),
});
export type AgentRow = z.infer<typeof agentRow>;

const columns = `
select g.id, g.name, g.labels, g.status, g.paused, g.slots, g.version, g.host, g.created_at as "createdAt", g.last_seen_at as "lastSeenAt",
  (select coalesce(jsonb_agg(jsonb_build_object('name', n.name,
      'live', n.heartbeat_at > clock_timestamp() - interval '15 seconds', 'since', p.since, 'roundTripUs', p.round_trip_us,
      'draining', n.draining or n.drain <> 'none', 'refusal', case when r.agent_id is not null then jsonb_build_object('reason', r.reason, 'at', r.at) end) order by n.name), '[]')
    from node n left join presence p on p.node_id = n.id and p.node_boot_id = n.boot_id and p.agent_id = g.id
      left join refusal r on r.node_id = n.id and r.agent_id = g.id
    where n.status = 'joined' and (p.agent_id is not null or n.heartbeat_at > clock_timestamp() - interval '24 hours')) as nodes
from agent g`;

const page = {
  name: "list-agents",
  text: `${columns} where g.status <> 'removed' and ($2::uuid is null or g.id < $2) and ($3::uuid[] is null or g.id = any($3)) order by g.id desc limit $1`,
};
const byName = {
  name: "find-agent",
  text: `${columns} where g.name = $1 or g.id::text = $1 order by g.status <> 'removed' desc, g.id desc limit 1`,
};

export function listAgents(
  sql: Sql,
  query: { readonly limit: number; readonly before: AgentId | null; readonly ids: readonly AgentId[] | undefined },
): Promise<AgentRow[]> {
  return rowsOf(sql, page, [query.limit, query.before, query.ids ?? null], agentRow);
}

export async function findAgent(sql: Sql, nameOrId: string): Promise<AgentRow | undefined> {
  return (await rowsOf(sql, byName, [nameOrId], agentRow))[0];
}

const targetRow = z.object({ id: agentIdSchema, name: z.string(), labels: labelsSchema });
export type Target = z.infer<typeof targetRow>;

const targets = {
  name: "list-targets",
  text: `select id, name, labels from agent where status = 'active' order by name`,
};
const named = {
  name: "named-targets",
  text: `select id, name, labels from agent where status = 'active' and (name = any($1) or id::text = any($1))`,
};

/** Every active agent: what a label selector chooses from, once per submission. */
export function listTargets(sql: Sql): Promise<Target[]> {
  return rowsOf(sql, targets, [], targetRow);
}

export function namedTargets(sql: Sql, names: readonly string[]): Promise<Target[]> {
  return rowsOf(sql, named, [names], targetRow);
}

const admissionRow = z.object({
  agent: agentIdSchema,
  name: z.string(),
  status: agentStatus,
  certificate: z.enum(["valid", "superseded", "revoked"]),
  notAfterMs: z.number(),
  /** Whether a session was opened with it before. */
  used: z.boolean(),
});
export type Admission = z.infer<typeof admissionRow>;

const admissions = {
  name: "read-admissions",
  text: `select c.thumbprint, c.agent_id as agent, g.name, g.status, c.status as certificate, (extract(epoch from c.not_after) * 1000)::float8 as "notAfterMs",
    c.used_at is not null as used
  from agent_certificate c join agent g on g.id = c.agent_id where c.thumbprint = any($1::text[])`,
};

async function readAdmissions(sql: Sql, thumbprints: readonly string[]): Promise<ReadonlyMap<string, Admission>> {
  const rows = await rowsOf(sql, admissions, [thumbprints], admissionRow.extend({ thumbprint: z.string() }));
  return new Map(rows.map(({ thumbprint, ...found }) => [thumbprint, found]));
}

/** The row behind a certificate's thumbprint; undefined when this cluster never issued it. */
export async function readAdmission(sql: Sql, thumbprint: string): Promise<Admission | undefined> {
  return (await readAdmissions(sql, [thumbprint])).get(thumbprint);
}

/** As {@link readAdmission}, for agents that come back by the thousand: those who ask at once share a statement. */
export function createAdmissionReader(sql: Sql): (thumbprint: string) => Promise<Admission | undefined> {
  const reads = new GroupCommit<string, { readonly found: Admission | undefined }>(
    {
      async commit(thumbprints) {
        const found = await readAdmissions(sql, thumbprints);
        return thumbprints.map((thumbprint) => ({ found: found.get(thumbprint) }));
      },
      keyOf: (thumbprint) => thumbprint,
    },
    { largestBatch: 256, capacity: 20_000 },
  );
  return async (thumbprint) => (await reads.add(thumbprint)).found;
}

const revoke = {
  name: "revoke-agent",
  text: `
with changed as (
  update agent set status = 'revoked', status_reason = 'revoked by ' || $2 where (name = $1 or id::text = $1) and status in ('active', 'quarantined') returning id, name),
held as (select thumbprint from agent_certificate where agent_id in (select id from changed) order by thumbprint for update),
certificates as (update agent_certificate c set status = 'revoked' from held h where c.thumbprint = h.thumbprint),
audited as (
  insert into audit (actor, address, action, target, detail) select $2, $3, 'agent-revoke', id::text, jsonb_build_object('name', name) from changed)
select id from changed`,
};

/** The agent revoked now, undefined when there was none to revoke. */
export async function revokeAgent(
  sql: Sql,
  input: { readonly nameOrId: string; readonly principal: string; readonly address: string },
): Promise<AgentId | undefined> {
  const [found] = await rowsOf(
    sql,
    revoke,
    [input.nameOrId, input.principal, input.address],
    z.object({ id: agentIdSchema }),
  );
  return found?.id;
}

const names = { name: "agent-names", text: `select id, name from agent where id = any($1::uuid[])` };

export async function agentNames(sql: Sql, ids: readonly AgentId[]): Promise<ReadonlyMap<AgentId, string>> {
  const rows = await rowsOf(sql, names, [ids], z.object({ id: agentIdSchema, name: z.string() }));
  return new Map(rows.map((row) => [row.id, row.name]));
}
