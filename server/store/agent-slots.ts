// How many scripts an agent runs at once, as people set it: one row and one audit row. Nodes tell the agents with a session
// here whose number is another than they were told last.
import { z } from "zod";
import { agentIdSchema, type AgentId } from "../../shared/ids.ts";
import type { CancelActor } from "./cancel-tasks.ts";
import type { Sql } from "./connection.ts";
import { idArray } from "./id-array.ts";
import { rowsOf } from "./rows.ts";

const set = {
  name: "set-agent-slots",
  text: `
with found as (
  select id, name, slots from agent where (name = $1 or id::text = $1) and status <> 'removed' order by id for update),
changed as (update agent g set slots = $2 from found f where g.id = f.id and g.slots is distinct from $2 returning g.id),
audited as (
  insert into audit (actor, address, action, target, detail)
  select $3, $4, 'agent-set', f.id::text, jsonb_build_object('name', f.name, 'slots', $2::int)
  from found f join changed using (id))
select id from found`,
};

/** Null: the agent's own setting. The agent's id, changed now or not; undefined when there is none. */
export async function setAgentSlots(
  sql: Sql,
  input: { readonly nameOrId: string; readonly slots: number | null },
  actor: CancelActor,
): Promise<AgentId | undefined> {
  const values = [input.nameOrId, input.slots, actor.principal, actor.address];
  return (await rowsOf(sql, set, values, z.object({ id: agentIdSchema })))[0]?.id;
}

export interface ToldSlots {
  readonly agent: AgentId;
  readonly slots: number | null;
}

const read = {
  name: "read-agent-slots",
  text: `select g.id as agent, g.slots from unnest($1::uuid[], $2::int[]) s(agent_id, slots)
    join agent g on g.id = s.agent_id where g.slots is distinct from s.slots`,
};
const row = z.object({ agent: agentIdSchema, slots: z.int().nullable() });

/** Of these, the ones that were told another number than is set. */
export function readAgentSlots(sql: Sql, told: readonly ToldSlots[]): Promise<ToldSlots[]> {
  return rowsOf(sql, read, [idArray(told.map((one) => one.agent)), told.map((one) => one.slots)], row);
}
