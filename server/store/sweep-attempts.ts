// Giving up (DESIGN 4.10), in bounded steps: queued past the time limit expires; an attempt whose agent had no session on
// any live node for its unreachable limit is lost, but nobody is judged before a node has been up long enough (60 s, or
// the limit) for agents to come back to it. An attempt that a claim bound to a journal while another one greeted is lost
// too: the greeting could not see it yet. What was being stored for an agent while it was removed ends like the rest of
// its attempts. Any node may run it; compare-and-set makes repetition harmless.
import { z } from "zod";
import { taskIdSchema, type TaskId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({ task: taskIdSchema });

/** Ends the rows of `due` and closes their logs, attempt before attempt log. The state's expression and the reason are constants of this file. */
const ending = (state: string, reason: string): string => `ended as (
  update attempt a set rank = 9, state = ${state}, reason = '${reason}', finished_at = clock_timestamp()
  from due where a.id = due.id returning a.id, a.task_id),
locked_log as (select attempt_id from attempt_log where attempt_id in (select id from ended) order by attempt_id for update),
closing as (update attempt_log g set closed = true from locked_log k where g.attempt_id = k.attempt_id)
select task_id as task from ended`;

const expire = {
  name: "sweep-expire",
  text: `
with due as (
  select a.id from attempt a
  where a.rank = 0 and a.expires_at < clock_timestamp() order by a.id limit 500 for update of a skip locked),
${ending("'expired'", "queue-time-limit")}`,
};

const unreachable = {
  name: "sweep-unreachable",
  text: `
with due as (
  select a.id from attempt a join task t on t.id = a.task_id join agent g on g.id = a.agent_id
  where a.rank in (1, 2, 3) and t.unreachable_limit_ms > 0
    and greatest(g.last_seen_at, a.created_at, (
        select max(n.heartbeat_at) from presence p join node n on n.id = p.node_id and n.boot_id = p.node_boot_id where p.agent_id = a.agent_id))
      + make_interval(secs => t.unreachable_limit_ms / 1000.0) < clock_timestamp()
    and exists (
      select from node n where n.heartbeat_at > clock_timestamp() - interval '15 seconds'
        and n.started_at + make_interval(secs => least(t.unreachable_limit_ms / 1000.0, 60)) < clock_timestamp())
    and not exists (
      select from presence p join node n on n.id = p.node_id and n.boot_id = p.node_boot_id
      where p.agent_id = a.agent_id and n.heartbeat_at > clock_timestamp() - interval '15 seconds')
  order by a.id limit 500 for update of a skip locked),
${ending("'lost'", "unreachable")}`,
};

const otherJournal = {
  name: "sweep-other-journal",
  text: `
with due as (
  select a.id from attempt a join agent g on g.id = a.agent_id
  where a.rank in (1, 2, 3) and a.journal_id <> g.journal_id order by a.id limit 500 for update of a skip locked),
${ending("'lost'", "journal-missing")}`,
};

/** Far longer than a submission or a claim takes, and than a node's memory of agents' names lasts. */
const afterRemoval = "1 hour";

const removed = {
  name: "sweep-removed",
  text: `
with late as (
  select o.id from agent g cross join lateral (
    select id from attempt where agent_id = g.id and rank = 0
    union all
    select id from attempt where agent_id = g.id and rank in (1, 2, 3)) o
  where g.status = 'removed' and g.removed_at > clock_timestamp() - interval '${afterRemoval}' limit 500),
due as (
  select a.id, a.rank from attempt a where a.id in (select id from late) and a.rank < 9 order by a.id for update of a skip locked),
${ending("case when due.rank = 0 then 'cancelled' else 'lost' end", "agent-removed")}`,
};

const clock = {
  name: "sweep-clock",
  text: `select (extract(epoch from clock_timestamp()) * 1000)::float8 as "atMs"`,
};

/** The database's clock, which verdicts are made by: whoever sweeps holds it against its own monotonic one. */
export async function readDatabaseClock(sql: Sql): Promise<number> {
  const [found] = await rowsOf(sql, clock, [], z.object({ atMs: z.number() }));
  return found?.atMs ?? 0;
}

export async function sweepAttempts(sql: Sql): Promise<TaskId[]> {
  const expired = await rowsOf(sql, expire, [], row);
  const lost = await rowsOf(sql, unreachable, [], row);
  const stranded = await rowsOf(sql, otherJournal, [], row);
  const orphaned = await rowsOf(sql, removed, [], row);
  return [...expired, ...lost, ...stranded, ...orphaned].map((found) => found.task);
}
