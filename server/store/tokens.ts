// Enrolment tokens: created, listed, revoked, and used exactly once. Only SHA-256 of the secret is stored.
import { z } from "zod";
import { agentIdSchema, tokenIdSchema, type AgentId, type TokenId } from "../../shared/ids.ts";
import { labelsSchema, type Labels } from "../../shared/task.ts";
import type { Sql } from "./connection.ts";
import { rowsOf, timeMs, timeMsOrNull } from "./rows.ts";

const tokenRow = z.object({
  id: tokenIdSchema,
  state: z.enum(["unused", "used", "expired", "revoked"]),
  labels: labelsSchema,
  replace: z.string().nullable(),
  createdBy: z.string(),
  createdAt: timeMs,
  expiresAt: timeMs,
  usedAt: timeMsOrNull,
  agent: z.string().nullable(),
});
export type TokenRow = z.infer<typeof tokenRow>;

const columns = `
select t.id, case when t.status = 'unused' and t.expires_at < clock_timestamp() then 'expired' else t.status end as state,
  t.labels, t.replaces as replace, t.created_by as "createdBy", t.created_at as "createdAt", t.expires_at as "expiresAt", t.used_at as "usedAt", g.name as agent
from enrolment_token t left join agent g on g.id = t.agent_id`;

const create = {
  name: "create-token",
  text: `
with made as (
  insert into enrolment_token (id, secret_sha256, labels, replaces, expires_at, created_by)
  values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5::float8 / 1000), $6))
insert into audit (actor, address, action, target, detail) values ($6, $7, 'token-create', $1::text, jsonb_build_object('labels', $3::jsonb))`,
};
const read = { name: "read-token", text: `${columns} where t.id = $1` };
const page = {
  name: "list-tokens",
  text: `${columns} where ($2::uuid is null or t.id < $2) order by t.id desc limit $1`,
};
const revoke = {
  name: "revoke-token",
  text: `
with changed as (update enrolment_token set status = 'revoked' where id = $1 and status = 'unused' returning id)
insert into audit (actor, address, action, target) select $2, $3, 'token-revoke', id::text from changed`,
};

export interface NewToken {
  readonly id: TokenId;
  readonly secretSha256: Uint8Array;
  readonly labels: Labels;
  readonly replaces: string | null;
  readonly expiresMs: number;
  readonly principal: string;
  readonly address: string;
}

export async function createToken(sql: Sql, token: NewToken): Promise<void> {
  const { id, secretSha256, labels, replaces, expiresMs, principal, address } = token;
  await sql.query(create, [id, secretSha256, JSON.stringify(labels), replaces, expiresMs, principal, address]);
}

export async function readToken(sql: Sql, id: TokenId): Promise<TokenRow | undefined> {
  return (await rowsOf(sql, read, [id], tokenRow))[0];
}

export function listTokens(
  sql: Sql,
  query: { readonly limit: number; readonly before: TokenId | null },
): Promise<TokenRow[]> {
  return rowsOf(sql, page, [query.limit, query.before], tokenRow);
}

export async function revokeToken(
  sql: Sql,
  input: { readonly id: TokenId; readonly principal: string; readonly address: string },
): Promise<void> {
  await sql.query(revoke, [input.id, input.principal, input.address]);
}

const secretRow = z.object({
  secretSha256: z.instanceof(Uint8Array),
  labels: labelsSchema,
  replaces: z.string().nullable(),
  state: z.enum(["unused", "used", "expired", "revoked"]),
  usedSpkiSha256: z.string().nullable(),
  usedRecently: z.boolean(),
  agent: agentIdSchema.nullable(),
});
export type TokenSecret = z.infer<typeof secretRow>;

const lockSecret = {
  name: "lock-token",
  text: `select secret_sha256 as "secretSha256", labels, replaces,
    case when status = 'unused' and expires_at < clock_timestamp() then 'expired' else status end as state,
    used_spki_sha256 as "usedSpkiSha256", coalesce(used_at > clock_timestamp() - interval '10 minutes', false) as "usedRecently", agent_id as agent
  from enrolment_token where id = $1 for update`,
};

/** Locks the token's row for the rest of the transaction. */
export async function lockToken(sql: Sql, id: TokenId): Promise<TokenSecret | undefined> {
  return (await rowsOf(sql, lockSecret, [id], secretRow))[0];
}

const use = {
  name: "use-token",
  text: `update enrolment_token set status = 'used', used_at = clock_timestamp(), used_spki_sha256 = $2, agent_id = $3 where id = $1 and status = 'unused'`,
};

export async function useToken(
  sql: Sql,
  input: { readonly id: TokenId; readonly spkiSha256: string; readonly agent: AgentId },
): Promise<void> {
  await sql.query(use, [input.id, input.spkiSha256, input.agent]);
}
