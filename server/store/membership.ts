// Node rows: joining, heartbeats and the versioned list that agents follow. A removed node does not come back.
// Joining also settles what an earlier boot of this node left behind: its sessions ended with its last heartbeat at the
// latest, and that moment, not their beginning, counts for their agents' unreachable limit. Locks agents in id order.
import { z } from "zod";
import { nodeIdSchema, type BootId, type NodeId } from "../../shared/ids.ts";
import { listedNodeSchema, type ListedNode, type NodeList } from "../../shared/wire/nodes.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

export interface NodeRow {
  readonly id: NodeId;
  readonly name: string;
  readonly bootId: BootId;
  readonly version: string;
  readonly addresses: readonly string[];
}

const join = {
  name: "node-join",
  text: `
with old as (select status, addresses, name, boot_id, heartbeat_at from node where id = $1),
left_behind as (
  select g.id from agent g where g.id in (select agent_id from presence where node_id = $1 and node_boot_id <> $3) order by g.id for update),
seen as (
  update agent g set last_seen_at = greatest(g.last_seen_at, old.heartbeat_at) from left_behind l, old where g.id = l.id),
gone as (delete from presence p using left_behind l where p.agent_id = l.id and p.node_id = $1 and p.node_boot_id <> $3),
put as (
  insert into node (id, name, boot_id, version, addresses) select $1, $2, $3, $4, $5::jsonb
  where not exists (select from old where status = 'removed')
  on conflict (id) do update set name = excluded.name, boot_id = excluded.boot_id, version = excluded.version,
    addresses = excluded.addresses, started_at = clock_timestamp(), heartbeat_at = clock_timestamp(), draining = false, settings_seen = 0
  returning id),
bumped as (
  update cluster set nodes_version = nodes_version + 1
  where not exists (
    select from old where addresses = $5::jsonb and name = $2 and heartbeat_at > clock_timestamp() - interval '24 hours'))
select id from put`,
};

const heartbeat = {
  name: "node-heartbeat",
  text: `
with mine as (
  update node set heartbeat_at = clock_timestamp(), active = $3, sessions = $4, draining = $5, settings_seen = $6
  where id = $1 and boot_id = $2 and status = 'joined' returning drain, task_cap)
select case when m.drain is not null then 'beaten' when o.status = 'removed' then 'removed'
    when o.heartbeat_at > clock_timestamp() - interval '15 seconds' then 'replaced' else 'unlisted' end as kind,
  coalesce(m.drain, 'none') as drain, coalesce(m.task_cap, 0) as "taskCap", c.paused, c.settings_version as version,
  (select coalesce(jsonb_agg(jsonb_build_object('active', n.active, 'cap', n.task_cap, 'draining', n.draining or n.drain <> 'none') order by n.id), '[]')
    from node n where n.id <> $1 and n.status = 'joined' and n.heartbeat_at > clock_timestamp() - interval '15 seconds') as others
from cluster c left join node o on o.id = $1 left join mine m on true`,
};

/** What the list's form holds. A node that starts with an empty data directory each time leaves a row a day long. */
const listedAtMost = 256;

const list = {
  name: "node-list",
  text: `select c.nodes_version + (select timeline_id from pg_control_checkpoint())::bigint * 4294967296 as version,
    coalesce(jsonb_agg(jsonb_build_object('id', n.id, 'name', n.name, 'addresses', n.addresses) order by n.joined_at)
      filter (where n.id is not null), '[]') as nodes
  from cluster c left join (
    select * from node where status = 'joined' and heartbeat_at > clock_timestamp() - interval '24 hours' order by heartbeat_at desc limit ${listedAtMost}) n on true
  group by c.nodes_version`,
};

const idRow = z.object({ id: nodeIdSchema });

/** False when this node was removed from the cluster. */
export async function joinNode(sql: Sql, node: NodeRow): Promise<boolean> {
  const found = await rowsOf(
    sql,
    join,
    [node.id, node.name, node.bootId, node.version, JSON.stringify(node.addresses)],
    idRow,
  );
  return found.length === 1;
}

export interface Beat {
  readonly id: NodeId;
  readonly bootId: BootId;
  readonly active: number;
  readonly sessions: number;
  readonly draining: boolean;
  /**
   * The version of the cluster's settings this boot acts by; 0 before the first answer. Stored as it is, also when it is
   * lower than before: a failover may have lost a change, and its number is given to the next one.
   */
  readonly settingsSeen: number;
}

/** What people have set for this node, and the version of the cluster's settings that this is. */
export interface NodeSettings {
  readonly version: number;
  readonly paused: boolean;
  /** Asked for by a person; a node that is stopped drains without it. */
  readonly drain: NodeDrain;
  readonly taskCap: number;
}

export const nodeDrains = ["none", "hand-over", "finish"] as const;
export type NodeDrain = (typeof nodeDrains)[number];

/** Another live node, as the balance counts it. */
export interface OtherNode {
  readonly active: number;
  readonly cap: number;
  readonly draining: boolean;
}

export type BeatAnswer =
  | { readonly kind: "beaten"; readonly settings: NodeSettings; readonly others: readonly OtherNode[] }
  /** Another boot of this node id took over. */
  | { readonly kind: "replaced" }
  | { readonly kind: "removed" }
  /** A failover took its row, or the row of its boot: it joins again. */
  | { readonly kind: "unlisted" };

const beatRow = z.object({
  kind: z.enum(["beaten", "replaced", "removed", "unlisted"]),
  drain: z.enum(nodeDrains),
  taskCap: z.int(),
  paused: z.boolean(),
  version: z.number(),
  others: z.array(z.object({ active: z.int(), cap: z.int(), draining: z.boolean() })),
});

export async function beatNode(sql: Sql, beat: Beat): Promise<BeatAnswer> {
  const { id, bootId, active, sessions, draining, settingsSeen } = beat;
  const [found] = await rowsOf(sql, heartbeat, [id, bootId, active, sessions, draining, settingsSeen], beatRow);
  if (found === undefined) return { kind: "unlisted" };
  const { kind, others, ...settings } = found;
  return kind === "beaten" ? { kind, settings, others } : { kind };
}

const listRow = z.object({ version: z.number(), nodes: z.array(z.looseObject({ id: nodeIdSchema })) });

/** A row of another form, as another version may have written, goes by its id or is left out: it must not cost the others the list. */
export async function readNodeList(sql: Sql): Promise<NodeList> {
  const [found] = await rowsOf(sql, list, [], listRow);
  return { version: found?.version ?? 0, want: 0, nodes: found?.nodes.flatMap(listable) ?? [] };
}

function listable(node: { readonly id: NodeId }): ListedNode[] {
  for (const form of [node, { ...node, name: node.id }]) {
    const parsed = listedNodeSchema.safeParse(form);
    if (parsed.success) return [parsed.data];
  }
  return [];
}
