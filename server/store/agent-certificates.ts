// The positive list's writes: enrolling an agent, replacing its certificate, and retiring the old one once the new was used.
import { z } from "zod";
import { agentIdSchema, type AgentId } from "../../shared/ids.ts";
import type { Labels } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const idRow = z.object({ id: agentIdSchema });

const insert = {
  name: "insert-agent",
  text: `insert into agent (id, name, labels) values ($1, $2, $3) on conflict (name) where status <> 'removed' do nothing returning id`,
};
const takeOver = {
  name: "replace-agent",
  text: `update agent set labels = $2, status = 'active', status_reason = '', refused_boot_id = null, refused_at = null where name = $1 and status <> 'removed' returning id`,
};
const dropCertificates = {
  name: "drop-certificates",
  text: `
with locked as (select thumbprint from agent_certificate where agent_id = $1 and status <> 'revoked' order by thumbprint for update)
update agent_certificate c set status = 'revoked' from locked l where c.thumbprint = l.thumbprint`,
};

/** Undefined when the name is taken. */
export async function insertAgent(
  sql: Sql,
  agent: { readonly id: AgentId; readonly name: string; readonly labels: Labels },
): Promise<AgentId | undefined> {
  return (await rowsOf(sql, insert, [agent.id, agent.name, JSON.stringify(agent.labels)], idRow))[0]?.id;
}

/** An agent of this name enrols again with a token that allows it: same id, earlier certificates revoked. */
export async function replaceAgent(
  sql: Sql,
  agent: { readonly name: string; readonly labels: Labels },
): Promise<AgentId | undefined> {
  const [found] = await rowsOf(sql, takeOver, [agent.name, JSON.stringify(agent.labels)], idRow);
  if (found !== undefined) await sql.query(dropCertificates, [found.id]);
  return found?.id;
}

export interface AgentCertificate {
  readonly thumbprint: string;
  readonly agent: AgentId;
  readonly spkiSha256: string;
  readonly certificate: string;
  readonly notAfterMs: number;
}

const add = {
  name: "add-agent-certificate",
  text: `insert into agent_certificate (thumbprint, agent_id, spki_sha256, certificate, not_after) values ($1, $2, $3, $4, to_timestamp($5::float8 / 1000))`,
};

export async function storeAgentCertificate(sql: Sql, row: AgentCertificate): Promise<void> {
  await sql.query(add, [row.thumbprint, row.agent, row.spkiSha256, row.certificate, row.notAfterMs]);
}

const bySpki = {
  name: "certificate-by-spki",
  text: `select certificate from agent_certificate where agent_id = $1 and spki_sha256 = $2 and status = 'valid' order by created_at desc limit 1`,
};

/** The certificate already issued for this key: the answer to an enrolment whose reply was lost. */
export async function findCertificate(sql: Sql, agent: AgentId, spkiSha256: string): Promise<string | undefined> {
  return (await rowsOf(sql, bySpki, [agent, spkiSha256], z.object({ certificate: z.string() })))[0]?.certificate;
}

const issued = {
  name: "certificates-issued",
  text: `select count(*)::int as count from agent_certificate where agent_id = $1 and created_at > clock_timestamp() - make_interval(secs => $2::float8 / 1000)`,
};

/** How many an agent was given in the last `withinMs`. */
export async function countIssued(sql: Sql, agent: AgentId, withinMs: number): Promise<number> {
  return (await rowsOf(sql, issued, [agent, withinMs], z.object({ count: z.number() })))[0]?.count ?? 0;
}

const dropEnded = {
  name: "drop-ended-certificates",
  text: `
with locked as (
  select thumbprint from agent_certificate where agent_id = $1 and not_after < clock_timestamp() - interval '90 days'
  order by thumbprint for update)
delete from agent_certificate c using locked l where c.thumbprint = l.thumbprint`,
};

/** Forgets those that ended a quarter of a year ago: nobody can connect with one, and nobody asks about it any more. */
export async function dropEndedCertificates(sql: Sql, agent: AgentId): Promise<void> {
  await sql.query(dropEnded, [agent]);
}

const markUsed = {
  name: "certificate-used",
  text: `
with used as (select agent_id, created_at from agent_certificate where thumbprint = $1 and used_at is null),
locked as (
  select c.thumbprint, c.created_at < u.created_at and c.status = 'valid' as older from agent_certificate c join used u on u.agent_id = c.agent_id
  order by c.thumbprint for update of c)
update agent_certificate c set used_at = case when c.thumbprint = $1 then clock_timestamp() else c.used_at end,
  status = case when l.older then 'superseded' else c.status end
from locked l where c.thumbprint = l.thumbprint and (l.older or c.thumbprint = $1)`,
};

/** First use of a certificate retires those before it. Live sessions on them go on until they end. */
export async function markCertificateUsed(sql: Sql, thumbprint: string): Promise<void> {
  await sql.query(markUsed, [thumbprint]);
}
