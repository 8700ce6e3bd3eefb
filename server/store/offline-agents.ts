// Which of these agents have no session on any live node: for those who do not want to wait.
import { z } from "zod";
import { agentIdSchema, type AgentId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const statement = {
  name: "offline-agents",
  text: `select w.agent_id as agent from unnest($1::uuid[]) w(agent_id) where not exists (
    select from presence p join node n on n.id = p.node_id and n.boot_id = p.node_boot_id
    where p.agent_id = w.agent_id and n.status = 'joined' and n.heartbeat_at > clock_timestamp() - interval '15 seconds')`,
};

export async function offlineAgents(sql: Sql, agents: readonly AgentId[]): Promise<AgentId[]> {
  return (await rowsOf(sql, statement, [agents], z.object({ agent: agentIdSchema }))).map(({ agent }) => agent);
}
