// Rows by the million, made in PostgreSQL as the store's own verbs leave them: a backlog that waits, and a history of
// finished attempts spread over days. Ids are UUIDv7 of the moment a row says it was made, as everywhere.
// Logs are not made: nothing measured here reads them, and they go by partitions.
import type { Client } from "pg";
import type { RowAgent } from "./store-site.ts";

const rowsPerStatement = 50_000;
const tasksPerSubmission = 4;

interface Batch {
  readonly from: number;
  readonly count: number;
}

function batches(rows: number): Batch[] {
  return Array.from({ length: Math.ceil(rows / rowsPerStatement) }, (_, index) => {
    const from = index * rowsPerStatement;
    return { from, count: Math.min(rowsPerStatement, rows - from) };
  });
}

const rowsOf = (age: string): string => `
  i as materialized (
    select n, ($3::uuid[])[1 + n % cardinality($3::uuid[])] as agent_id, ${age} as age,
      uuidv7(-${age}) as task_id, uuidv7(-${age}) as attempt_id
    from generate_series($1::bigint, $1::bigint + $2::bigint - 1) n),
  s as materialized (select n / ${tasksPerSubmission} as n, min(age) as age, uuidv7(-min(age)) as id, count(*) as tasks from i group by 1),
  sub as (
    insert into submission (id, principal, idempotency_key, body_sha256, client_address, task_count, created_at)
    select id, 'bench', 'made-' || id, sha256(id::text::bytea), '192.0.2.7', tasks, clock_timestamp() - age from s order by n),
  heard as (
    insert into audit (at, actor, address, action, target, detail)
    select clock_timestamp() - age, 'bench', '192.0.2.7', 'submit', id::text, jsonb_build_object('tasks', tasks) from s order by n),
  t as (
    insert into task (id, submission_id, agent_id, lane, spec, grace_ms, lock_name, lock_mode, expires_at, unreachable_limit_ms, created_at)
    select i.task_id, s.id, i.agent_id, 'work', '{"kind":"script","interpreter":"sh","script":"systemctl restart web","graceMs":10000}', 10000,
      'default', 'none', clock_timestamp() - i.age + interval '1 day', 86400000, clock_timestamp() - i.age
    from i join s on s.n = i.n / ${tasksPerSubmission} order by i.n)`;

/** Queued rows, one after the other for each of these agents in turn, submitted within the last hour. */
export async function makeBacklog(sql: Client, rows: number, agents: readonly Pick<RowAgent, "id">[]): Promise<void> {
  for (const { from, count } of batches(rows))
    await sql.query(
      `with ${rowsOf("make_interval(secs => 3600.0 * (1 - n::float8 / $4::float8))")},
      l as (insert into attempt_log (attempt_id, agent_id) select attempt_id, agent_id from i order by n)
      insert into attempt (id, task_id, agent_id, lane, created_at, expires_at)
      select attempt_id, task_id, agent_id, 'work', clock_timestamp() - age, clock_timestamp() + interval '1 day' from i order by n`,
      [from, count, agents.map(({ id }) => id), rows],
    );
  await sql.query("vacuum analyze");
}

/** Of a hundred attempts of each agent 94 succeeded, 4 failed, 1 timed out, 1 was cancelled. */
const state = `case n / cardinality($3::uuid[]) % 100 when 7 then 'failed' when 32 then 'failed' when 57 then 'failed' when 82 then 'failed'
  when 13 then 'timed-out' when 51 then 'cancelled' else 'succeeded' end`;

export interface History {
  readonly rows: number;
  readonly agents: readonly RowAgent[];
  readonly days: number;
  readonly node: string;
}

/** Finished attempts, evenly over the days up to now. */
export async function makeHistory(sql: Client, { rows, agents, days, node }: History): Promise<void> {
  for (const { from, count } of batches(rows))
    await sql.query(
      `with ${rowsOf("make_interval(secs => 86400.0 * $5::float8 * (1 - n::float8 / $4::float8))")},
      l as (
        insert into attempt_log (attempt_id, agent_id, home_no, closed, out_next, err_next)
        select attempt_id, agent_id, 1, true, 1800, 0 from i order by n),
      e as (
        select i.*, ${state} as state, jsonb_build_object('outcome', ${state}, 'reason', '', 'exitCode', 0, 'signal', null,
          'startedAtMs', 1000, 'finishedAtMs', 2000, 'durationMs', 1000, 'out', jsonb_build_object('length', 1800, 'sha256', repeat('a', 64)),
          'err', jsonb_build_object('length', 0, 'sha256', repeat('b', 64))) as result
        from i)
      insert into attempt (id, task_id, agent_id, lane, rank, state, offer_no, journal_id, offered_by, home_node, exit_code, result, result_sha256,
        created_at, accepted_at, started_at, finished_at, expires_at)
      select attempt_id, task_id, agent_id, 'work', 9, state, 1, agent_id, $6::uuid, $6::uuid, 0, result, sha256(attempt_id::text::bytea),
        clock_timestamp() - age, clock_timestamp() - age, clock_timestamp() - age, clock_timestamp() - age + interval '1 second',
        clock_timestamp() - age + interval '1 day'
      from e order by n`,
      [from, count, agents.map(({ id }) => id), rows, days, node],
    );
  await sql.query("vacuum analyze");
}
