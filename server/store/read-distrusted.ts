// Of the sessions here, those that may not go on: the agent is revoked, removed or quarantined, the certificate the session
// was opened with is revoked, as it is when another machine took the agent over, or the agent's row names another boot than
// the session greeted with. The last is an older process whose successor greeted elsewhere, or a failover that lost the
// greeting: nothing would ever be claimed for such a session, so it has to greet again.
import { z } from "zod";
import { agentIdSchema, bootIdSchema, type AgentId, type BootId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { idArray } from "./id-array.ts";
import { rowsOf } from "./rows.ts";

export interface SessionCredential {
  readonly agent: AgentId;
  /** SHA-256 of the session's certificate, lower-case hex. */
  readonly thumbprint: string;
  /** The boot the session greeted with. */
  readonly bootId: BootId;
}

const row = z.object({
  agent: agentIdSchema,
  status: z.enum(["quarantined", "revoked", "removed", "other-boot"]),
  reason: z.string(),
  bootId: bootIdSchema,
});
export type Distrusted = z.infer<typeof row>;

const statement = {
  name: "read-distrusted",
  text: `select g.id as agent, s.boot_id as "bootId",
    case when g.status <> 'active' then g.status when c.status = 'revoked' then 'revoked' else 'other-boot' end as status,
    case when g.status <> 'active' then g.status_reason when c.status = 'revoked' then 'its certificate was replaced'
      else 'the cluster knows another boot of this agent' end as reason
  from unnest($1::uuid[], $2::text[], $3::uuid[]) s(agent_id, thumbprint, boot_id) join agent g on g.id = s.agent_id
  left join agent_certificate c on c.thumbprint = s.thumbprint
  where g.status <> 'active' or c.status = 'revoked' or g.boot_id is distinct from s.boot_id`,
};

export function readDistrusted(sql: Sql, sessions: readonly SessionCredential[]): Promise<Distrusted[]> {
  return rowsOf(
    sql,
    statement,
    [
      idArray(sessions.map((one) => one.agent)),
      idArray(sessions.map((one) => one.thumbprint)),
      idArray(sessions.map((one) => one.bootId)),
    ],
    row,
  );
}
