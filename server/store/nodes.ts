// Node rows as people list them.
import { z } from "zod";
import { nodeIdSchema, type NodeId } from "../../shared/ids.ts";
import { nodeDrains } from "./membership.ts";
import type { Sql } from "./connection.ts";
import { rowsOf, timeMs } from "./rows.ts";

const nodeRow = z.object({
  id: nodeIdSchema,
  name: z.string(),
  state: z.enum(["live", "dead", "removed"]),
  addresses: z.array(z.string()),
  version: z.string(),
  draining: z.boolean(),
  drain: z.enum(nodeDrains),
  taskCap: z.int(),
  active: z.int(),
  heartbeatAt: timeMs,
  sessions: z.int(),
});
export type NodeListRow = z.infer<typeof nodeRow>;

const columns = `
select id, name, case when status = 'removed' then 'removed' when heartbeat_at > clock_timestamp() - interval '15 seconds' then 'live' else 'dead' end as state,
    addresses, version, draining or drain <> 'none' as draining, drain, task_cap as "taskCap", active, heartbeat_at as "heartbeatAt",
    (select count(*)::int from presence p where p.node_id = node.id and p.node_boot_id = node.boot_id) as sessions
from node`;

const page = {
  name: "list-nodes",
  text: `${columns} where ($2::uuid is null or id < $2) order by id desc limit $1`,
};

export function listNodes(
  sql: Sql,
  query: { readonly limit: number; readonly before: NodeId | null },
): Promise<NodeListRow[]> {
  return rowsOf(sql, page, [query.limit, query.before], nodeRow);
}

const named = {
  name: "find-nodes",
  text: `${columns} where (name = $1 or id::text = $1) order by status = 'joined' desc, id desc limit 10`,
};

/** Nodes of that id or name, those not removed first; a name is a label that several may carry. */
export function findNodes(sql: Sql, nameOrId: string): Promise<NodeListRow[]> {
  return rowsOf(sql, named, [nameOrId], nodeRow);
}

const shown = 100;

const remainsRow = z.object({
  sessions: z.int(),
  active: z.int(),
  agents: z.array(z.string()),
  tasks: z.array(z.object({ id: z.string(), agent: z.string() })),
});

const remains = {
  name: "node-remains",
  text: `
with here as (
  select g.id, g.name from presence p join node n on n.id = p.node_id and n.boot_id = p.node_boot_id join agent g on g.id = p.agent_id
  where p.node_id = $1 and n.heartbeat_at > clock_timestamp() - interval '15 seconds'),
flowing as (
  select a.task_id as id, here.name as agent from here join attempt a on a.agent_id = here.id and a.rank in (1, 2, 3)
  where a.home_node = $1 or (a.rank = 1 and a.offered_by = $1 and a.offer_until > clock_timestamp()))
select (select count(*)::int from here) as sessions, (select count(*)::int from flowing) as active,
  (select coalesce(jsonb_agg(name), '[]') from (select name from here order by name limit ${shown}) h) as agents,
  (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'agent', agent)), '[]') from (select * from flowing order by id limit ${shown}) f) as tasks`,
};

/** What still flows through a node: its agents and their tasks. */
export async function readRemains(sql: Sql, node: NodeId): Promise<z.infer<typeof remainsRow>> {
  const [found] = await rowsOf(sql, remains, [node], remainsRow);
  return found ?? { sessions: 0, active: 0, agents: [], tasks: [] };
}
