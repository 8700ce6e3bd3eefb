// The cluster's row, its certificate authorities and API keys. Private keys are here only as ciphertext under the master key.
import { z } from "zod";
import { apiKeyIdSchema, clusterIdSchema, type ApiKeyId, type ClusterId, type NodeId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const clusterRow = z.object({ id: clusterIdSchema, name: z.string(), keyCheck: z.instanceof(Uint8Array) });
export type ClusterRow = z.infer<typeof clusterRow>;

const authorityRow = z.object({
  kind: z.enum(["agents", "nodes"]),
  state: z.enum(["next", "current", "retired"]),
  certificate: z.string(),
  keyCiphertext: z.instanceof(Uint8Array),
});
export type AuthorityRow = z.infer<typeof authorityRow>;

const readOne = { name: "read-cluster", text: `select id, name, key_check as "keyCheck" from cluster` };
const create = {
  name: "create-cluster",
  text: `insert into cluster (id, name, key_check) values ($1, $2, $3) on conflict do nothing returning id, name, key_check as "keyCheck"`,
};
const addAuthority = {
  name: "add-authority",
  text: `insert into authority (id, kind, state, certificate, key_ciphertext) values ($1, $2, 'current', $3, $4)`,
};
const readAll = {
  name: "read-authorities",
  text: `select kind, state, certificate, key_ciphertext as "keyCiphertext" from authority where state <> 'retired' order by created_at`,
};

export async function readCluster(sql: Sql): Promise<ClusterRow | undefined> {
  return (await rowsOf(sql, readOne, [], clusterRow))[0];
}

/** Undefined when another node created the cluster first. */
export async function createCluster(
  sql: Sql,
  cluster: { readonly id: ClusterId; readonly name: string; readonly keyCheck: Uint8Array },
): Promise<ClusterRow | undefined> {
  return (await rowsOf(sql, create, [cluster.id, cluster.name, cluster.keyCheck], clusterRow))[0];
}

export async function storeAuthority(
  sql: Sql,
  authority: {
    readonly id: string;
    readonly kind: "agents" | "nodes";
    readonly certificate: string;
    readonly keyCiphertext: Uint8Array;
  },
): Promise<void> {
  await sql.query(addAuthority, [authority.id, authority.kind, authority.certificate, authority.keyCiphertext]);
}

export function readAuthorities(sql: Sql): Promise<AuthorityRow[]> {
  return rowsOf(sql, readAll, [], authorityRow);
}

const addNodeCertificate = {
  name: "add-node-certificate",
  text: `insert into node_certificate (thumbprint, node_id, not_after) values ($1, $2, to_timestamp($3::float8 / 1000))`,
};

export async function storeNodeCertificate(
  sql: Sql,
  row: { readonly thumbprint: string; readonly node: NodeId; readonly notAfterMs: number },
): Promise<void> {
  await sql.query(addNodeCertificate, [row.thumbprint, row.node, row.notAfterMs]);
}

const keyRow = z.object({
  id: apiKeyIdSchema,
  name: z.string(),
  scopes: z.array(z.string()),
  secretSha256: z.instanceof(Uint8Array),
  valid: z.boolean(),
});
export type ApiKeyRow = z.infer<typeof keyRow>;

const addKey = {
  name: "add-api-key",
  text: `insert into api_key (id, name, secret_sha256, scopes) values ($1, $2, $3, $4)`,
};
const findKey = {
  name: "find-api-key",
  text: `select id, name, scopes, secret_sha256 as "secretSha256", revoked_at is null and (expires_at is null or expires_at > clock_timestamp()) as valid
  from api_key where id = $1`,
};

export async function storeApiKey(
  sql: Sql,
  key: {
    readonly id: ApiKeyId;
    readonly name: string;
    readonly secretSha256: Uint8Array;
    readonly scopes: readonly string[];
  },
): Promise<void> {
  await sql.query(addKey, [key.id, key.name, key.secretSha256, JSON.stringify(key.scopes)]);
}

export async function findApiKey(sql: Sql, id: ApiKeyId): Promise<ApiKeyRow | undefined> {
  return (await rowsOf(sql, findKey, [id], keyRow))[0];
}

const anyKey = { name: "any-api-key", text: "select 1 as one from api_key where revoked_at is null limit 1" };

export async function hasApiKeys(sql: Sql): Promise<boolean> {
  return (await sql.query(anyKey, [])).length > 0;
}
