// What people do to nodes, agents and tasks beside running them: joins the HTTP edge to the store, and tells the nodes.
// Every act is stored first and then hinted; a lost hint is made up for by the next heartbeat or look.
import type { Clock } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import {
  attemptIdSchema,
  newId,
  nodeIdSchema,
  type AgentId,
  type IdSource,
  type NodeId,
  type TaskId,
} from "../shared/ids.ts";
import { isFinal } from "../shared/task.ts";
import type { AgentBackend, NodeBackend, Principal, TaskBackend } from "./api/backend.ts";
import type { HintKind } from "./cluster/hints.ts";
import { setAgentSlots } from "./store/agent-slots.ts";
import { findAgent } from "./store/agents.ts";
import type { CancelActor } from "./store/cancel-tasks.ts";
import type { Sql } from "./store/connection.ts";
import { moveTaskToTop } from "./store/move-task.ts";
import { findNodes, listNodes, readRemains, type NodeListRow } from "./store/nodes.ts";
import { readCluster, setAgentPaused, setClusterPaused } from "./store/pause.ts";
import { readLocks } from "./store/read-locks.ts";
import { readTask } from "./store/read-tasks.ts";
import { retryTask } from "./store/retry-task.ts";
import { secretsKeptHours } from "./store/task-secrets.ts";
import { removeNode, setNode } from "./store/set-node.ts";
import type { QueueRefusal } from "./store/submit-tasks.ts";
import { queueRetrySeconds } from "./tasks/submit.ts";
import { locksView } from "./tasks/locks-view.ts";
import { agentView, taskView } from "./tasks/task-view.ts";

export interface AdministrationDeps {
  readonly sql: Sql;
  readonly ids: IdSource;
  readonly clock: Clock;
  /** Why one more may not wait for this agent; takes the room when it may. */
  readonly admitOne: (agent: AgentId) => Promise<QueueRefusal | undefined>;
  /** To every node, this one included. */
  readonly tell: (what: HintKind, agents: readonly AgentId[]) => void;
  /** Followers of this task look again. */
  readonly wake: (task: TaskId) => void;
}

export type Administration = Pick<TaskBackend, "retryTask" | "moveTaskToTop"> &
  Pick<AgentBackend, "setAgentPaused" | "setAgent" | "readLocks"> &
  NodeBackend;

const pauseWaitMs = 20_000;
const pauseLookMs = 50;

const actorOf = ({ id, address }: Principal): CancelActor => ({ principal: id, address });
const nodeView = (row: NodeListRow) => ({ ...row, heartbeatAt: new Date(row.heartbeatAt).toISOString() });

function queueFull({ bound, queued, most }: QueueRefusal, agentName: string): AppError {
  const where = bound === "agent" ? `for agent ${agentName}` : "in the cluster";
  return new AppError("queue.full", `${queued} tasks wait ${where}; at most ${most} may wait`, {
    retryAfterSeconds: queueRetrySeconds,
  });
}

export function createAdministration(deps: AdministrationDeps): Administration {
  const { sql, ids, clock, tell, wake } = deps;
  const viewOf = async (id: TaskId) => {
    const row = await readTask(sql, id);
    return row === undefined ? null : taskView(row);
  };
  const nodeOf = async (id: NodeId) => {
    const [row] = await findNodes(sql, id);
    return row === undefined ? null : nodeView(row);
  };
  return {
    async retryTask(id, principal) {
      const row = await readTask(sql, id);
      if (row === undefined) return null;
      refuseUnlessRun(row.spec.kind);
      const latest = row.attempts.at(-1);
      if (latest !== undefined && isFinal(latest.state) && row.agentStatus === "active") {
        const refusal = await deps.admitOne(row.agent);
        if (refusal !== undefined) throw queueFull(refusal, row.agentName);
      }
      const attempt = newId(ids, attemptIdSchema);
      const retried = await retryTask(sql, { task: id, attempt }, actorOf(principal));
      if (retried === undefined) return null;
      const { agent, agentName, agentStatus, state, lacksSecrets } = retried;
      if (!isFinal(state)) throw new AppError("task.open", `task ${id} is ${state}: its latest attempt has not ended`);
      if (agentStatus !== "active")
        throw new AppError(
          agentStatus === "removed" ? "agent.removed" : `agent.${agentStatus}`,
          `agent ${agentName} is ${agentStatus}`,
        );
      if (lacksSecrets)
        throw new AppError("task.finished", `the secrets of task ${id} are kept no longer`, {
          mend: `Submit it again; secrets are kept until ${secretsKeptHours} hours after a task's end.`,
        });
      // Not retried although all was well: somebody else did at the same moment, and once is enough.
      tell("work", [agent]);
      wake(id);
      return viewOf(id);
    },
    async moveTaskToTop(id, principal) {
      const moved = await moveTaskToTop(sql, id, actorOf(principal));
      if (moved === undefined) return null;
      if (!moved.moved) throw new AppError("task.finished", `task ${id} is ${moved.state}, not queued`);
      tell("work", [moved.agent]);
      return viewOf(id);
    },
    async setAgentPaused(nameOrId, paused, principal) {
      const agent = await setAgentPaused(sql, { nameOrId, paused }, actorOf(principal));
      if (agent === undefined) return null;
      if (!paused) tell("work", [agent]);
      const row = await findAgent(sql, agent);
      return row === undefined ? null : agentView(row);
    },
    async setAgent(nameOrId, { slots }, principal) {
      const agent = await setAgentSlots(sql, { nameOrId, slots }, actorOf(principal));
      if (agent === undefined) return null;
      tell("agents", [agent]);
      const row = await findAgent(sql, agent);
      return row === undefined ? null : agentView(row);
    },
    async readLocks(nameOrId) {
      const found = await readLocks(sql, nameOrId);
      return found === undefined ? null : locksView(found);
    },
    listNodes: async (query) => (await listNodes(sql, query)).map(nodeView),
    async findNode(nameOrId) {
      const rows = await findNodes(sql, nameOrId);
      const standing = rows.filter((row) => row.id === nameOrId || row.state !== "removed");
      const [row, other] = standing.length > 0 ? standing : rows;
      if (row !== undefined && other !== undefined && standing.length > 1) {
        const known = standing.map(({ id, addresses }) => `${id} (${addresses.join(", ")})`).join("; ");
        throw new AppError("request.invalid", `several nodes are called ${nameOrId}: ${known}`, {
          mend: "Name it by its id.",
        });
      }
      return row === undefined ? null : nodeView(row);
    },
    async setNode(id, change, principal) {
      if (!(await setNode(sql, { node: id, ...change }, actorOf(principal)))) return null;
      tell("nodes", []);
      return nodeOf(id);
    },
    async removeNode(id, principal) {
      const isRemoved = await removeNode(sql, id, actorOf(principal));
      const node = await nodeOf(id);
      if (node !== null && !isRemoved)
        throw new AppError("node.unknown", `node ${node.name} (${id}) was removed already`);
      tell("nodes", []);
      return node;
    },
    async readRemains(id) {
      const remains = await readRemains(sql, nodeIdSchema.parse(id));
      return { ...remains, empty: remains.sessions === 0 && remains.active === 0 };
    },
    readCluster: () => readCluster(sql),
    async setClusterPaused(paused, principal) {
      await setClusterPaused(sql, paused, actorOf(principal));
      tell("nodes", []);
      const untilMs = clock.monotonicMs() + pauseWaitMs;
      let cluster = await readCluster(sql);
      while (cluster.behind.length > 0 && cluster.paused === paused && clock.monotonicMs() < untilMs) {
        await clock.sleep(pauseLookMs);
        cluster = await readCluster(sql);
      }
      if (!paused) tell("work", []);
      return cluster;
    },
  };
}

/**
 * Who may retry scripts may not replace executables; and what an old update brings is no longer what is served. Judged by
 * the kind alone: what a later version stored, and this one does not understand, may be more than a script as well.
 */
function refuseUnlessRun(kind: string): void {
  if (kind === "script" || kind === "no-op") return;
  if (kind === "update")
    throw new AppError("request.invalid", "an update of an agent is not retried as a task", {
      mend: "Ask for it again with `holdfast agents update`.",
    });
  throw new AppError("request.invalid", `this node's version knows no tasks of kind ${kind.slice(0, 64)}`, {
    mend: "Upgrade every node.",
  });
}
