// Which agents may have work: new queued rows since a queue number, and offers whose window passed. The feed tells a node
// whom to claim for; the claim decides. A row whose transaction commits late is caught by the overlap of `after`.
import { z } from "zod";
import { agentIdSchema, type AgentId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { idArray } from "./id-array.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({ agents: z.array(agentIdSchema), unanswered: z.array(agentIdSchema), last: z.number() });

const feed = {
  name: "read-work-feed",
  text: `select coalesce(array_agg(distinct agent_id), '{}') as agents,
    coalesce(array_agg(distinct agent_id) filter (where queue_no = 0), '{}') as unanswered, greatest(coalesce(max(queue_no), $1), $1)::bigint as last
  from (
    (select agent_id, queue_no from attempt where rank = 0 and queue_no > $1 order by queue_no limit 5000)
    union all
    (select agent_id, 0 from attempt where rank = 1 and offer_until between clock_timestamp() - interval '90 seconds' and clock_timestamp() limit 5000)
  ) recent`,
};

const known = {
  name: "read-known-work",
  text: `select coalesce(array_agg(s.agent_id), '{}') as agents, '{}'::uuid[] as unanswered, 0::bigint as last from unnest($1::uuid[]) s(agent_id)
  where exists (select from attempt a where a.agent_id = s.agent_id and a.rank = 0)
    or exists (select from attempt a where a.agent_id = s.agent_id and a.rank = 1 and not a.cancel_requested
      and (a.offer_until < clock_timestamp() or a.offer_until > clock_timestamp() + interval '30 seconds'))`,
};

export interface WorkFeed {
  readonly agents: readonly AgentId[];
  /** Of them, those with an offer that nobody answered. */
  readonly unanswered: readonly AgentId[];
  readonly last: number;
}

export async function readWorkFeed(sql: Sql, after: number): Promise<WorkFeed> {
  const [found] = await rowsOf(sql, feed, [after], row);
  return found ?? { agents: [], unanswered: [], last: after };
}

/** Of these agents, those with something to claim: at greetings and in the full sweep. */
export async function readKnownWork(sql: Sql, agents: readonly AgentId[]): Promise<readonly AgentId[]> {
  if (agents.length === 0) return [];
  const [found] = await rowsOf(sql, known, [idArray(agents)], row);
  return found?.agents ?? [];
}
