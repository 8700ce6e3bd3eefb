// The cluster's and people's verbs with arguments drawn from the rows of the moment, and what befalls the rows from
// outside: time that passes, agents enrolled, revoked and removed, a paused cluster, another attempt at a task.
import { setAgentSlots as setAgentSlotsInSql } from "../../../server/store/agent-slots.ts";
import { abandonTask as abandonInSql } from "../../../server/store/abandon-task.ts";
import { insertAgent } from "../../../server/store/agent-certificates.ts";
import { cancelTasks as cancelInSql } from "../../../server/store/cancel-tasks.ts";
import type { Database } from "../../../server/store/connection.ts";
import { createPostgresClusterStore } from "../../../server/store/postgres-cluster.ts";
import { moveTaskToTop as moveInSql } from "../../../server/store/move-task.ts";
import {
  setAgentPaused as setAgentPausedInSql,
  setClusterPaused as setClusterPausedInSql,
} from "../../../server/store/pause.ts";
import { removeAgent as removeInSql } from "../../../server/store/remove-agent.ts";
import { retryTask as retryInSql } from "../../../server/store/retry-task.ts";
import { removeNode as removeNodeInSql, setNode as setNodeInSql } from "../../../server/store/set-node.ts";
import { taskIdSchema, type NodeId, type TaskId } from "../../../shared/ids.ts";
import {
  moveTaskToTop,
  removeNode,
  retryTask,
  setAgentPaused,
  setAgentSlots,
  setClusterPaused,
  setNode,
} from "../../simulation/model/administer.ts";
import {
  abandonTask,
  cancelTasks,
  sweepExpired,
  sweepOtherJournal,
  sweepUnreachable,
} from "../../simulation/model/cluster.ts";
import { removeAgent, sweepRemoved } from "../../simulation/model/remove-agent.ts";
import type { Dice } from "./dice.ts";
import { agentCount, agentId, bootId, numberOf, type History } from "./history.ts";
import { change, verb, type Operation } from "./operation.ts";

type Draw = (dice: Dice, history: History) => Operation;

const actor = { principal: "tester", address: "192.0.2.7" };
const run = (database: Database, text: string, values: readonly unknown[]) =>
  database.durable.query({ name: "", text }, values);

function anyTask(dice: Dice, history: History): TaskId {
  const attempt = history.attempt(dice);
  return typeof attempt === "string" ? taskIdSchema.parse(attempt) : attempt.task;
}

const cancel: Draw = (dice, history) => {
  const tasks = [...new Set(dice.several(3, () => anyTask(dice, history)))];
  return change("cancel", tasks, {
    ask: (database) => cancelInSql(database.durable, tasks, actor),
    tell: (db) => cancelTasks(db, tasks),
  });
};

const abandon: Draw = (dice, history) => {
  const task = anyTask(dice, history);
  return change("abandon", task, {
    ask: (database) => abandonInSql(database.durable, task, actor),
    tell: (db) => abandonTask(db, task),
  });
};

const nameOf = (number: number): string => `agent-${number % 3}`;

const remove: Draw = (dice, history) => {
  const agent = history.agent(dice);
  const nameOrId = dice.oneOf([nameOf(numberOf(agent)), agent]);
  return change("remove-agent", nameOrId, {
    ask: (database) => removeInSql(database.durable, { nameOrId, ...actor }),
    tell: (db) => removeAgent(db, { nameOrId, ...actor }),
  });
};

const enrol: Draw = (_dice, history) => {
  const missing = Array.from({ length: agentCount }, (_, number) => number).find(
    (number) => history.db.agents.get(agentId(number)) === undefined,
  );
  const [id, name] = [agentId(missing ?? 0), nameOf(missing ?? 0)];
  return change(
    "enrol",
    { id, name },
    {
      ask: async (database) =>
        missing === undefined ? undefined : await insertAgent(database.durable, { id, name, labels: {} }),
      tell(db) {
        const isTaken = [...db.agents.rows.values()].some((row) => row.name === name && row.status !== "removed");
        if (missing === undefined || isTaken) return undefined;
        db.agents.put(id, {
          id,
          name,
          status: "active",
          statusReason: "",
          bootCounter: null,
          bootId: null,
          journalId: null,
          retiredJournals: [],
          lastSeenAtMs: null,
          refusedBootId: null,
          refusedAtMs: null,
        });
        return id;
      },
    },
  );
};

/** Revoked or quarantined by somebody, and let in again. */
const status: Draw = (dice, history) => {
  const agent = history.agent(dice);
  const to = dice.oneOf(["active", "revoked", "quarantined"] as const);
  return change(
    "status",
    { agent, to },
    {
      ask: async (database) => {
        await run(database, "update agent set status = $2, status_reason = $2 where id = $1 and status <> 'removed'", [
          agent,
          to,
        ]);
      },
      tell(db) {
        const row = db.agents.get(agent);
        if (row !== undefined && row.status !== "removed")
          db.agents.put(agent, { ...row, status: to, statusReason: to });
      },
    },
  );
};

const pause: Draw = (dice) => {
  const paused = dice.oneOf([false, false, true]);
  return change("pause", paused, {
    ask: (database) => setClusterPausedInSql(database.durable, paused, actor),
    tell: (db) => setClusterPaused(db, paused),
  });
};

const pauseAgent: Draw = (dice, history) => {
  const agent = history.agent(dice);
  const input = { nameOrId: dice.oneOf([agent, nameOf(numberOf(agent))]), paused: dice.oneOf([false, false, true]) };
  return change("pause-agent", input, {
    ask: (database) => setAgentPausedInSql(database.durable, input, actor),
    tell: (db) => setAgentPaused(db, input),
  });
};

const slotsOf: Draw = (dice, history) => {
  const input = { nameOrId: history.agent(dice), slots: dice.oneOf([null, 0, 3]) };
  return change("set-agent-slots", input, {
    ask: async (database) => void (await setAgentSlotsInSql(database.durable, input, actor)),
    tell: (db) => setAgentSlots(db, input.nameOrId, input.slots),
  });
};

const settings: Draw = (dice) => {
  const told = allAgents.map((agent) => ({ agent, slots: dice.oneOf([null, 0, 3]) }));
  return verb("settings", told, (store) => store.settings(told), "free");
};

const setOfNode: Draw = (dice, history) => {
  const set = {
    node: history.node(dice),
    drain: dice.oneOf([undefined, "none", "hand-over", "finish"] as const),
    taskCap: dice.oneOf([undefined, 0, 3, 1_000]),
  };
  return change("set-node", set, {
    ask: (database) => setNodeInSql(database.durable, set, actor),
    tell: (db) => setNode(db, set),
  });
};

const removeOneNode: Draw = (dice, history) => {
  const node = history.node(dice);
  return change("remove-node", node, {
    ask: (database) => removeNodeInSql(database.durable, node, actor),
    tell: (db) => removeNode(db, node),
  });
};

const retry: Draw = (dice, history) => {
  const input = { task: anyTask(dice, history), attempt: history.newTaskIds().attempt };
  return change("retry", input, {
    ask: (database) => retryInSql(database.durable, input, actor),
    tell: (db) => retryTask(db, input),
  });
};

const moveToTop: Draw = (dice, history) => {
  const task = anyTask(dice, history);
  return change("move-to-top", task, {
    ask: (database) => moveInSql(database.durable, task, actor),
    tell: (db) => moveTaskToTop(db, task),
  });
};

const pending: Draw = (dice) => {
  const agents = allAgents.slice(dice.below(2));
  return verb("pending", agents, (store) => store.pending(agents));
};

const sweeps = [sweepExpired, sweepUnreachable, sweepOtherJournal, sweepRemoved] as const;

const sweep: Draw = () => ({
  name: "sweep",
  given: null,
  order: "free",
  ask: (database) => createPostgresClusterStore(database).sweep(),
  parts: sweeps.map((one) => (db, { answer, alone }) => {
    const ended = alone ? {} : { only: new Set(answer as TaskId[]) };
    return db.transaction("durable", "sweep", () => one(db, ended));
  }),
  join: (answers) => answers.flat(),
});

const feed: Draw = (dice, history) => {
  const last = Math.max(0, ...[...history.db.attempts.rows.values()].map(({ queueNo }) => queueNo));
  const after = Math.max(0, last - dice.oneOf([3, 1, 0, 100]));
  return verb("feed", after, (store) => store.workFeed(after), "free");
};

const allAgents = Array.from({ length: agentCount }, (_, number) => agentId(number));

const known: Draw = (dice) => {
  const agents = allAgents.slice(dice.below(2));
  return verb("known", agents, (store) => store.knownWork(agents), "free");
};

const cancels: Draw = (dice) => {
  const agents = allAgents.slice(dice.below(3));
  return verb("cancels", agents, (store) => store.cancels(agents));
};

const distrusted: Draw = (dice, history) => {
  const sessions = allAgents.map((agent) => ({ agent, thumbprint: "none", bootId: history.boot(dice, agent) }));
  return verb("distrusted", sessions, (store) => store.distrusted(sessions), "free");
};

const nodeBoot = (dice: Dice, history: History, node: NodeId) =>
  dice.once(4) ? bootId(100 + dice.below(3)) : (history.db.nodes.get(node)?.bootId ?? bootId(100));

const settle: Draw = (dice, history) => {
  const node = history.node(dice);
  const agents = allAgents.filter(() => dice.once(2));
  const input = { node, nodeBootId: nodeBoot(dice, history, node), agents };
  return verb("settle", input, (store) => store.settlePresence(input));
};

const join: Draw = (dice, history) => {
  const id = history.node(dice);
  const name = dice.once(6) ? "renamed" : `node-${numberOf(id)}`;
  const addresses = [dice.once(6) ? "moved:10943" : `${name}:10943`];
  const node = { id, name, bootId: bootId(100 + dice.below(3)), version: "1.0.0", addresses };
  return verb("join", node, (store) => store.join(node));
};

const beat: Draw = (dice, history) => {
  const id = history.node(dice);
  const sent = {
    id,
    bootId: nodeBoot(dice, history, id),
    active: 1 + dice.below(3),
    sessions: 1,
    draining: dice.once(4),
    settingsSeen: dice.below(3),
  };
  return verb("beat", sent, (store) => store.beat(sent));
};

const nodeList: Draw = () => verb("nodes", null, (store) => store.nodeList());
const clock: Draw = () => verb("clock", null, (store) => store.clockMs());

export const clusterVerbs = {
  cancel,
  abandon,
  remove,
  enrol,
  status,
  pause,
  pauseAgent,
  slotsOf,
  settings,
  setOfNode,
  removeOneNode,
  retry,
  moveToTop,
  pending,
  sweep,
  feed,
  known,
  cancels,
  distrusted,
  settle,
  join,
  beat,
  nodeList,
  clock,
} as const satisfies Record<string, Draw>;
