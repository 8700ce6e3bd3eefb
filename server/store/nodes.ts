// Node rows as people list them.
import { z } from "zod";
import { nodeIdSchema, type NodeId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf, timeMs } from "./rows.ts";

const nodeRow = z.object({
  id: nodeIdSchema,
  name: z.string(),
  state: z.enum(["live", "dead", "removed"]),
  addresses: z.array(z.string()),
  version: z.string(),
  draining: z.boolean(),
  heartbeatAt: timeMs,
  sessions: z.int(),
});
export type NodeListRow = z.infer<typeof nodeRow>;

const page = {
  name: "list-nodes",
  text: `select id, name, case when status = 'removed' then 'removed' when heartbeat_at > clock_timestamp() - interval '15 seconds' then 'live' else 'dead' end as state,
    addresses, version, draining, heartbeat_at as "heartbeatAt",
    (select count(*)::int from presence p where p.node_id = node.id and p.node_boot_id = node.boot_id) as sessions
  from node where ($2::uuid is null or id < $2) order by id desc limit $1`,
};

export function listNodes(
  sql: Sql,
  query: { readonly limit: number; readonly before: NodeId | null },
): Promise<NodeListRow[]> {
  return rowsOf(sql, page, [query.limit, query.before], nodeRow);
}
