// Pages of tasks, newest first: all, of one agent, of one state of the latest attempt, or both. Each filter has a way of its
// own to the fifty ids of its page, through an index in the order of the page; only those are then read in full.
// Invariant: no page reads more than its filter's own rows, however long the history is. One statement with every filter
// optional walked the newest tasks until it had found fifty: a state that nothing is in took 10 s beside 200,000 tasks.
// Reads the primary, so that a client never sees a lower rank after a higher one.
import type { TaskId } from "../../shared/ids.ts";
import { rankOf, type TaskState } from "../../shared/task.ts";
import type { Sql, Statement } from "./connection.ts";
import { columnsWith, taskRows, type TaskRow } from "./read-tasks.ts";

export interface TaskPage {
  readonly limit: number;
  readonly before: TaskId | null;
  /** Its name or its id. */
  readonly agent: string | undefined;
  readonly state: TaskState | undefined;
}

const older = (id: string): string => `($2::uuid is null or ${id} < $2)`;
/** An attempt that was retried is no longer the latest. */
const latest = `a.id = (select b.id from attempt b where b.task_id = a.task_id order by b.number desc limit 1)`;
const attempts = (where: string): string =>
  `select a.task_id as id from attempt a where ${where} and a.state = $3 and ${older("a.task_id")} and ${latest}`;
const newest = "order by id desc limit $1";

/** Of every agent with that name, removed ones included, its newest; of those the newest. Planned per agent, so by its index. */
const ofAgent = (ids: string, agent: string): string =>
  `select p.id from agent g cross join lateral (${ids} ${newest}) p where (g.name = ${agent} or g.id::text = ${agent}) ${newest}`;

/** How a state's attempts are found. Under way are few, whatever the history: they are read and sorted. */
type Found = "waiting-or-over" | "under-way";
const foundBy = (state: TaskState): Found => {
  const rank = rankOf(state);
  return rank === 0 || rank === 9 ? "waiting-or-over" : "under-way";
};

const ofState: Readonly<Record<Found, string>> = {
  // Indexes attempt_state_*, see indexes.ts: which of them is known when it is planned, with the state.
  "waiting-or-over": `${attempts("a.rank in (0, 9)")} ${newest}`,
  "under-way": `with open as materialized (${attempts("a.rank in (1, 2, 3)")}) select id from open ${newest}`,
};

/** A queue has a bound and most attempts succeed: what is left, the trouble of one agent, has index attempt_trouble. */
function ofAgentInState(state: TaskState): string {
  const own = "a.agent_id = g.id";
  if (foundBy(state) === "under-way") return attempts(`${own} and a.rank in (1, 2, 3)`);
  if (state === "queued") return attempts(`${own} and a.rank = 0`);
  if (state !== "succeeded") return attempts(`${own} and a.rank = 9 and a.state <> 'succeeded'`);
  return `select t.id from task t where t.agent_id = g.id and ${older("t.id")}
    and (select a.state from attempt a where a.task_id = t.id order by a.number desc limit 1) = $3`;
}

/** Planned anew for what is asked: a plan for any page would not know that a page is short. */
function statementOf(ids: string): Statement {
  const text = `${columnsWith("null")} where t.id = any(array(${ids})) order by t.id desc`;
  return { name: "list-tasks", plan: "each-time", text };
}

export function listTasks(sql: Sql, { limit, before, agent, state }: TaskPage): Promise<TaskRow[]> {
  const read = (ids: string, ...filters: string[]): Promise<TaskRow[]> =>
    taskRows(sql, statementOf(ids), [limit, before, ...filters]);
  if (state === undefined)
    return agent === undefined
      ? read(`select id from task where ${older("id")} ${newest}`)
      : read(ofAgent(`select id from task where agent_id = g.id and ${older("id")}`, "$3"), agent);
  return agent === undefined
    ? read(ofState[foundBy(state)], state)
    : read(ofAgent(ofAgentInState(state), "$4"), state, agent);
}
