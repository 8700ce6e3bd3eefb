// What a database says of a node that wants to join, asked before anything is written: it may be empty, or hold no cluster.
import { z } from "zod";
import type { NodeId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const serverRow = z.object({ version: z.int(), versionText: z.string(), tables: z.boolean() });
const server = {
  name: "server-standing",
  text: `select current_setting('server_version_num')::int as version, current_setting('server_version') as "versionText",
    to_regclass('node') is not null as tables`,
};

const standingRow = z.object({
  cluster: z.boolean(),
  removed: z.boolean(),
  others: z.array(z.object({ name: z.string(), version: z.string() })),
});
const standing = {
  name: "node-standing",
  text: `select exists (select from cluster) as cluster, exists (select from node where id = $1 and status = 'removed') as removed,
    (select coalesce(jsonb_agg(jsonb_build_object('name', name, 'version', version) order by name), '[]') from node
      where id <> $1 and status = 'joined' and heartbeat_at > clock_timestamp() - interval '15 seconds') as others`,
};

export interface Standing extends z.infer<typeof standingRow> {
  /** Such as 180004 and "18.4". */
  readonly server: { readonly version: number; readonly text: string };
}

export async function readStanding(sql: Sql, node: NodeId): Promise<Standing> {
  const [found] = await rowsOf(sql, server, [], serverRow);
  const { version = 0, versionText = "", tables = false } = found ?? {};
  const [row] = tables ? await rowsOf(sql, standing, [node], standingRow) : [];
  return { ...(row ?? { cluster: false, removed: false, others: [] }), server: { version, text: versionText } };
}
