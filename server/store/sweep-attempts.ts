// Giving up (DESIGN 4.10), in bounded steps: queued past the time limit expires; an attempt whose agent had no session on
// any live node for its unreachable limit is lost. Any node may run it; compare-and-set makes repetition harmless.
import { z } from "zod";
import { taskIdSchema, type TaskId } from "../../shared/ids.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

const row = z.object({ task: taskIdSchema });

const expire = {
  name: "sweep-expire",
  text: `
with due as (
  select a.id from attempt a join task t on t.id = a.task_id
  where a.rank = 0 and t.expires_at < clock_timestamp() order by a.id limit 500 for update of a skip locked),
ended as (
  update attempt a set rank = 9, state = 'expired', reason = 'queue-time-limit', finished_at = clock_timestamp()
  from due where a.id = due.id returning a.id, a.task_id),
closing as (update attempt_log set closed = true where attempt_id in (select id from ended))
select task_id as task from ended`,
};

const unreachable = {
  name: "sweep-unreachable",
  text: `
with due as (
  select a.id from attempt a join task t on t.id = a.task_id join agent g on g.id = a.agent_id
  where a.rank in (1, 2, 3) and t.unreachable_limit_ms > 0
    and greatest(coalesce(g.last_seen_at, a.created_at), a.created_at) + make_interval(secs => t.unreachable_limit_ms / 1000.0) < clock_timestamp()
    and not exists (
      select from presence p join node n on n.id = p.node_id and n.boot_id = p.node_boot_id
      where p.agent_id = a.agent_id and n.heartbeat_at > clock_timestamp() - interval '15 seconds')
  order by a.id limit 500 for update of a skip locked),
ended as (
  update attempt a set rank = 9, state = 'lost', reason = 'unreachable', finished_at = clock_timestamp()
  from due where a.id = due.id returning a.id, a.task_id),
closing as (update attempt_log set closed = true where attempt_id in (select id from ended))
select task_id as task from ended`,
};

export async function sweepAttempts(sql: Sql): Promise<TaskId[]> {
  const expired = await rowsOf(sql, expire, [], row);
  const lost = await rowsOf(sql, unreachable, [], row);
  return [...expired, ...lost].map((found) => found.task);
}
