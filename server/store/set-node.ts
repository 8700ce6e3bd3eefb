// What people set for a node: its drain, its task cap, its removal for good. Each one row and one audit row; the node
// hears of it with its next heartbeat, and is counted as behind until it says that it acts by it. A removed node leaves
// the list that agents follow, and does not come back.
import { z } from "zod";
import { nodeIdSchema, type NodeId } from "../../shared/ids.ts";
import type { CancelActor } from "./cancel-tasks.ts";
import type { Sql } from "./connection.ts";
import type { NodeDrain } from "./membership.ts";
import { rowsOf } from "./rows.ts";

const idRow = z.object({ id: nodeIdSchema });

export interface NodeChange {
  readonly node: NodeId;
  readonly drain?: NodeDrain | undefined;
  /** Most tasks at once; 0 serves users only. */
  readonly taskCap?: number | undefined;
}

const set = {
  name: "set-node",
  text: `
with changed as (
  update node set drain = coalesce($2, drain), task_cap = coalesce($3, task_cap) where id = $1 and status = 'joined' returning id, name),
bumped as (update cluster set settings_version = settings_version + 1 where exists (select from changed)),
audited as (
  insert into audit (actor, address, action, target, detail)
  select $4, $5, 'node-set', id::text, jsonb_strip_nulls(jsonb_build_object('name', name, 'drain', $2::text, 'taskCap', $3::int)) from changed)
select id from changed`,
};

/** False when there is no such node any more. */
export async function setNode(sql: Sql, change: NodeChange, actor: CancelActor): Promise<boolean> {
  const { node, drain = null, taskCap = null } = change;
  return (await rowsOf(sql, set, [node, drain, taskCap, actor.principal, actor.address], idRow)).length === 1;
}

const remove = {
  name: "remove-node",
  text: `
with changed as (update node set status = 'removed' where id = $1 and status = 'joined' returning id, name),
bumped as (update cluster set nodes_version = nodes_version + 1 where exists (select from changed)),
audited as (
  insert into audit (actor, address, action, target, detail)
  select $2, $3, 'node-remove', id::text, jsonb_build_object('name', name) from changed)
select id from changed`,
};

/** False when it was removed before. */
export async function removeNode(sql: Sql, node: NodeId, actor: CancelActor): Promise<boolean> {
  return (await rowsOf(sql, remove, [node, actor.principal, actor.address], idRow)).length === 1;
}
