// Pauses: of the whole cluster and of single agents. A paused agent keeps what runs and is offered nothing more; the claim
// and the fast path look at both in the same statement, so that what was paused before they began gets nothing.
// The cluster's settings have a version; each node says with its heartbeat which one it acts by.
import { z } from "zod";
import { agentIdSchema, type AgentId } from "../../shared/ids.ts";
import type { CancelActor } from "./cancel-tasks.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const setCluster = {
  name: "pause-cluster",
  text: `
with changed as (update cluster set paused = $1, settings_version = settings_version + 1 where paused <> $1 returning id),
audited as (
  insert into audit (actor, address, action, target)
  select $2, $3, case when $1 then 'cluster-pause' else 'cluster-resume' end, id::text from changed)
select count(*)::int as changed from changed`,
};

export async function setClusterPaused(sql: Sql, paused: boolean, actor: CancelActor): Promise<void> {
  await rowsOf(sql, setCluster, [paused, actor.principal, actor.address], z.object({ changed: z.int() }));
}

const setAgent = {
  name: "pause-agent",
  text: `
with found as (
  select id, name, paused from agent where (name = $1 or id::text = $1) and status <> 'removed' order by id for update),
changed as (update agent g set paused = $2 from found f where g.id = f.id and g.paused <> $2 returning g.id),
audited as (
  insert into audit (actor, address, action, target, detail)
  select $3, $4, case when $2 then 'agent-pause' else 'agent-resume' end, f.id::text, jsonb_build_object('name', f.name)
  from found f where f.paused <> $2)
select id from found`,
};

/** The agent's id, paused or resumed now or before; undefined when there is none. */
export async function setAgentPaused(
  sql: Sql,
  input: { readonly nameOrId: string; readonly paused: boolean },
  actor: CancelActor,
): Promise<AgentId | undefined> {
  const values = [input.nameOrId, input.paused, actor.principal, actor.address];
  return (await rowsOf(sql, setAgent, values, z.object({ id: agentIdSchema })))[0]?.id;
}

const clusterRow = z.object({
  id: z.string(),
  name: z.string(),
  paused: z.boolean(),
  /** Live nodes that do not act by the newest settings yet. */
  behind: z.array(z.string()),
});
export type ClusterState = z.infer<typeof clusterRow>;

const state = {
  name: "read-cluster-state",
  text: `select c.id, c.name, c.paused, (select coalesce(array_agg(n.name order by n.name), '{}') from node n
    where n.status = 'joined' and n.heartbeat_at > clock_timestamp() - interval '15 seconds' and n.settings_seen < c.settings_version) as behind
  from cluster c`,
};

export async function readCluster(sql: Sql): Promise<ClusterState> {
  const [found] = await rowsOf(sql, state, [], clusterRow);
  if (found === undefined) throw new RangeError("there is no cluster row");
  return found;
}
