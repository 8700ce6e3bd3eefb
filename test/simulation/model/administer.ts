// set-node.ts, pause.ts, retry-task.ts and move-task.ts on the model: what people set, and what they have done to a task.
import type { ToldSlots } from "../../../server/store/agent-slots.ts";
import type { NodeChange } from "../../../server/store/set-node.ts";
import type { MovedTask } from "../../../server/store/move-task.ts";
import type { RetriedTask } from "../../../server/store/retry-task.ts";
import type { AgentId, AttemptId, NodeId, TaskId } from "../../../shared/ids.ts";
import { latestOf } from "./cluster.ts";
import type { ModelDatabase } from "./database.ts";
import { newAttempt } from "./submit.ts";

export function setClusterPaused(db: ModelDatabase, paused: boolean): void {
  const row = db.cluster.get("one");
  if (row !== undefined && row.paused !== paused)
    db.cluster.put("one", { ...row, paused, settingsVersion: row.settingsVersion + 1 });
}

export function setAgentPaused(
  db: ModelDatabase,
  { nameOrId, paused }: { readonly nameOrId: string; readonly paused: boolean },
): AgentId | undefined {
  const found = [...db.agents.rows.values()].filter(
    (row) => (row.name === nameOrId || row.id === nameOrId) && row.status !== "removed",
  );
  for (const row of found) db.agents.put(row.id, { ...row, isPaused: paused });
  return found[0]?.id;
}

export function setNode(db: ModelDatabase, { node, drain, taskCap }: NodeChange): boolean {
  const row = db.nodes.get(node);
  if (row?.status !== "joined") return false;
  db.nodes.put(node, { ...row, drain: drain ?? row.drain, taskCap: taskCap ?? row.taskCap });
  const cluster = db.cluster.get("one");
  if (cluster !== undefined) db.cluster.put("one", { ...cluster, settingsVersion: cluster.settingsVersion + 1 });
  return true;
}

export function removeNode(db: ModelDatabase, node: NodeId): boolean {
  const row = db.nodes.get(node);
  if (row?.status !== "joined") return false;
  db.nodes.put(node, { ...row, status: "removed" });
  const cluster = db.cluster.get("one");
  if (cluster !== undefined) db.cluster.put("one", { ...cluster, nodesVersion: cluster.nodesVersion + 1 });
  return true;
}

export function retryTask(
  db: ModelDatabase,
  { task, attempt }: { readonly task: TaskId; readonly attempt: AttemptId },
): RetriedTask | undefined {
  const it = db.tasks.get(task);
  const latest = latestOf(db, task);
  const owner = it === undefined ? undefined : db.agents.get(it.agent);
  if (it === undefined || latest === undefined || owner === undefined) return undefined;
  const retried = latest.rank === 9 && owner.status === "active";
  const number = latest.number + (retried ? 1 : 0);
  if (retried) {
    const { agent, lane } = it;
    const expiresAtMs = db.nowMs + it.expiresAtMs - it.createdAtMs;
    newAttempt(db, { attempt, task, agent, lane, band: latest.band, number, expiresAtMs });
  }
  const { id, name: agentName, status: agentStatus } = owner;
  return {
    agent: id,
    agentName,
    agentStatus,
    state: latest.state,
    retried,
    lacksSecrets: false,
    attempt: retried ? attempt : latest.id,
    number,
  };
}

export function moveTaskToTop(db: ModelDatabase, task: TaskId): MovedTask | undefined {
  const latest = latestOf(db, task);
  if (latest === undefined) return undefined;
  const moved = latest.rank === 0;
  if (moved) db.attempts.put(latest.id, { ...latest, band: 0 });
  return { agent: latest.agent, state: latest.state, moved };
}

/** postgres-cluster.ts: how much waits for these agents. */
export function countPending(db: ModelDatabase, agents: readonly AgentId[]): number {
  const queued = [...db.attempts.rows.values()].filter(({ rank }) => rank === 0);
  return agents.reduce(
    (sum, agent) => sum + Math.min(pendingPerAgent, queued.filter((row) => row.agent === agent).length),
    0,
  );
}

const pendingPerAgent = 100;

export function setAgentSlots(db: ModelDatabase, agent: AgentId, slots: number | null): void {
  const row = db.agents.get(agent);
  if (row !== undefined && row.status !== "removed") db.agents.put(agent, { ...row, slots });
}

export function readAgentSlots(db: ModelDatabase, told: readonly ToldSlots[]): ToldSlots[] {
  return told.flatMap(({ agent, slots: before }): ToldSlots[] => {
    const row = db.agents.get(agent);
    const slots = row?.slots ?? null;
    return row === undefined || slots === before ? [] : [{ agent, slots }];
  });
}
