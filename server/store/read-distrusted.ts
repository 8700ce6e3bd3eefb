// Of the sessions here, those that may not go on: the agent is revoked, removed or quarantined, or the certificate the
// session was opened with is revoked, as it is when another machine took the agent over.
import { z } from "zod";
import { agentIdSchema, type AgentId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

export interface SessionCredential {
  readonly agent: AgentId;
  /** SHA-256 of the session's certificate, lower-case hex. */
  readonly thumbprint: string;
}

const row = z.object({
  agent: agentIdSchema,
  status: z.enum(["quarantined", "revoked", "removed"]),
  reason: z.string(),
});
export type Distrusted = z.infer<typeof row>;

const statement = {
  name: "read-distrusted",
  text: `select g.id as agent, case when g.status = 'active' then 'revoked' else g.status end as status,
    case when g.status = 'active' then 'its certificate was replaced' else g.status_reason end as reason
  from unnest($1::uuid[], $2::text[]) s(agent_id, thumbprint) join agent g on g.id = s.agent_id
  left join agent_certificate c on c.thumbprint = s.thumbprint
  where g.status <> 'active' or c.status = 'revoked'`,
};

export function readDistrusted(sql: Sql, sessions: readonly SessionCredential[]): Promise<Distrusted[]> {
  return rowsOf(sql, statement, [sessions.map((one) => one.agent), sessions.map((one) => one.thumbprint)], row);
}
