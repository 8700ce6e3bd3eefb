// remove-agent.ts on the model, and the sweep that ends what was being stored for an agent while it was removed.
import type { RemovedAgent } from "../../../server/store/remove-agent.ts";
import { agentIdSchema, type TaskId } from "../../../shared/ids.ts";
import type { Ended } from "./cluster.ts";
import type { ModelDatabase } from "./database.ts";
import { endRow } from "./greet.ts";
import type { AgentRow, AttemptRow } from "./rows.ts";
import { compare } from "./submit.ts";

const endedAtOnce = 10_000;
const sweptAtOnce = 500;
const sweptForMs = 3_600_000;

export interface Removal {
  readonly nameOrId: string;
  readonly principal: string;
}

/** Undefined when there is none to remove. Certificates are outside this model. */
export function removeAgent(db: ModelDatabase, { nameOrId, principal }: Removal): RemovedAgent | undefined {
  const id = agentIdSchema.safeParse(nameOrId).data;
  const standing = [...db.agents.rows.values()].filter(({ status }) => status !== "removed");
  const agent = standing.find((row) => row.id === id) ?? standing.find((row) => row.name === nameOrId);
  if (agent === undefined) return undefined;
  db.agents.put(agent.id, {
    ...agent,
    status: "removed",
    statusReason: `removed by ${principal}`,
    removedAtMs: db.nowMs,
  });
  const open = openOf(db, agent).slice(0, endedAtOnce);
  return { id: agent.id, tasks: open.map((row) => endRemoved(db, row)) };
}

export function sweepRemoved(db: ModelDatabase, ended: Ended = {}): TaskId[] {
  return [...db.agents.rows.values()]
    .filter(({ status, removedAtMs }) => status === "removed" && (removedAtMs ?? -Infinity) > db.nowMs - sweptForMs)
    .flatMap((agent) => openOf(db, agent))
    .filter((row) => ended.only?.has(row.task) ?? true)
    .slice(0, sweptAtOnce)
    .map((row) => endRemoved(db, row));
}

function openOf(db: ModelDatabase, agent: AgentRow): AttemptRow[] {
  return [...db.attempts.rows.values()]
    .filter((row) => row.agent === agent.id && row.rank < 9)
    .toSorted((a, b) => compare(a.id, b.id));
}

function endRemoved(db: ModelDatabase, row: AttemptRow): TaskId {
  endRow(db, row, row.rank === 0 ? "cancelled" : "lost", "agent-removed");
  return row.task;
}
