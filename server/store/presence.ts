// Which agent has a session on which node. Written at connect, when its round trip is known, and at disconnect, in batches, and settled once a minute, for
// a single write may be lost; true only while the node lives with that boot id. `last_seen_at` is when the last session ended, for the unreachable limit.
import type { AgentId, BootId, NodeId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { idArray } from "./id-array.ts";

export interface PresenceChange {
  readonly agent: AgentId;
  readonly node: NodeId;
  readonly nodeBootId: BootId;
  readonly change: "connected" | "disconnected" | "measured";
  /** Of a measured connection, microseconds. */
  readonly roundTripUs?: number;
}

const statement = {
  name: "write-presence",
  text: `
with item as (select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::int[]) i(agent_id, node_id, boot_id, change, round_trip_us)),
locked as (select g.id from agent g where g.id in (select agent_id from item where change <> 'measured') order by g.id for update),
seen as (update agent g set last_seen_at = clock_timestamp() from locked l where g.id = l.id),
gone as (
  delete from presence p using item i
  where i.change = 'disconnected' and p.agent_id = i.agent_id and p.node_id = i.node_id and p.node_boot_id = i.boot_id),
timed as (
  update presence p set round_trip_us = i.round_trip_us from item i
  where i.change = 'measured' and p.agent_id = i.agent_id and p.node_id = i.node_id and p.node_boot_id = i.boot_id)
insert into presence (agent_id, node_id, node_boot_id)
select agent_id, node_id, boot_id from item where change = 'connected'
on conflict (agent_id, node_id) do update set node_boot_id = excluded.node_boot_id, since = clock_timestamp(), round_trip_us = null`,
};

const settle = {
  name: "settle-presence",
  text: `
with present as (select agent_id from unnest($1::uuid[]) p(agent_id) order by agent_id),
gone as (delete from presence p where p.node_id = $2 and not p.agent_id = any($1::uuid[]))
insert into presence (agent_id, node_id, node_boot_id) select agent_id, $2, $3 from present
on conflict (agent_id, node_id) do update set node_boot_id = excluded.node_boot_id, since = clock_timestamp(), round_trip_us = null
where presence.node_boot_id <> excluded.node_boot_id`,
};

export interface NodePresence {
  readonly node: NodeId;
  readonly nodeBootId: BootId;
  readonly agents: readonly AgentId[];
}

/** Makes this node's rows what its sessions are, whatever single writes were lost. */
export async function settlePresence(sql: Sql, { node, nodeBootId, agents }: NodePresence): Promise<void> {
  await sql.query(settle, [idArray(agents), node, nodeBootId]);
}

export async function writePresence(sql: Sql, changes: readonly PresenceChange[]): Promise<void> {
  await sql.query(statement, [
    changes.map((change) => change.agent),
    changes.map((change) => change.node),
    changes.map((change) => change.nodeBootId),
    changes.map((change) => change.change),
    changes.map((change) => change.roundTripUs ?? null),
  ]);
}
