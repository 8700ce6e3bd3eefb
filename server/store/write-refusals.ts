// Why a node refused an agent last. Upserts in id order; retention.ts forgets rows after a month.
import type { AgentId, NodeId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";

export interface RefusalNote {
  readonly agent: AgentId;
  readonly reason: string;
}

const statement = {
  name: "write-refusals",
  text: `insert into refusal (agent_id, node_id, reason)
  select agent_id, $1, reason from unnest($2::uuid[], $3::text[]) n(agent_id, reason) order by agent_id
  on conflict (agent_id, node_id) do update set reason = excluded.reason, at = clock_timestamp()`,
};

/** At most one note per agent. */
export async function writeRefusals(sql: Sql, node: NodeId, notes: readonly RefusalNote[]): Promise<void> {
  await sql.query(statement, [node, notes.map(({ agent }) => agent), notes.map(({ reason }) => reason)]);
}
