// How much waits, by two reads that stop at a limit: for single agents through the index of their queue, and in all.
// A read of an agent's queue takes 0.6 ms for 1,000 rows, one of a million rows in all 90 ms, and 500 ms where vacuum
// has not been (measured, 2 cores): neither belongs into every submission. queue-bounds.ts says how often they are made.
import { z } from "zod";
import { agentIdSchema, type AgentId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const ofAgents = {
  name: "count-queued-of-agents",
  text: `select w.agent_id as agent,
    (select count(*) from (select from attempt a where a.agent_id = w.agent_id and a.rank = 0 limit $2) waiting)::int as queued
  from unnest($1::uuid[]) w(agent_id)`,
};

const inAll = {
  name: "count-queued",
  text: `select count(*)::int as queued from (select from attempt where rank = 0 limit $1) waiting`,
};

/** Queued attempts of each of these agents, counted up to `most`. */
export async function countQueuedOf(
  sql: Sql,
  { agents, most }: { readonly agents: readonly AgentId[]; readonly most: number },
): Promise<ReadonlyMap<AgentId, number>> {
  const row = z.object({ agent: agentIdSchema, queued: z.int() });
  const rows = await rowsOf(sql, ofAgents, [agents, most], row);
  return new Map(rows.map(({ agent, queued }) => [agent, queued]));
}

/** Queued attempts of the cluster, counted up to `most`. */
export async function countQueued(sql: Sql, most: number): Promise<number> {
  const [found] = await rowsOf(sql, inAll, [most], z.object({ queued: z.int() }));
  return found?.queued ?? 0;
}
