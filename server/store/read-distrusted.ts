// Of the agents with a session here, those that may not have one any more: revoked, removed or quarantined.
import { z } from "zod";
import { agentIdSchema, type AgentId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({
  agent: agentIdSchema,
  status: z.enum(["quarantined", "revoked", "removed"]),
  reason: z.string(),
});
export type Distrusted = z.infer<typeof row>;

const statement = {
  name: "read-distrusted",
  text: `select id as agent, status, status_reason as reason from agent where id = any($1::uuid[]) and status <> 'active'`,
};

export function readDistrusted(sql: Sql, agents: readonly AgentId[]): Promise<Distrusted[]> {
  return rowsOf(sql, statement, [agents], row);
}
