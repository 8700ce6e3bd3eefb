// What is kept, and for how long (SECURITY 5): logs 30 days by dropping whole partitions, attempts 90 days and audit rows
// 400 days in bounded batches, secrets until 24 hours after the end of their task. Everything is cut by id or time of
// creation, so that a run can stop anywhere.
// A batch looks at so many rows from where the one before ended, old or not, gone or not: it is as long beside ten million
// rows as beside none, and what must stay is not looked at again and again. Invariant: between two batches the database
// has as long for others as the batch took; a run takes what is old, however much, until its time is over.
import { z } from "zod";
import type { Clock } from "../../shared/clock.ts";
import { firstIdAt } from "../../shared/ids.ts";
import type { Database, Statement } from "./connection.ts";
import { pruneSecrets, secretsKeptHours } from "./task-secrets.ts";
import { rowsOf } from "./rows.ts";

const dayMs = 86_400_000;
export const keptDays = { logs: 30, attempts: 90, audit: 400 } as const;
export const rowsPerBatch = 500;
/** Less than the hour after which the next run begins. */
const runLimitMs = 45 * 60_000;
const lockKey = 7_305_511_902_006;

/** Of one batch: rows looked at, rows removed, and where the next one begins. No row looked at: over, or another node is at it. */
const batchRow = z.object({ seen: z.int(), gone: z.int(), last: z.string().nullable() });

interface Batched {
  readonly statement: Statement;
  /** Below every key. */
  readonly first: string;
  /** `until-kept`: keys are in the order of age, so behind a row that stays all do. Default: to the end of `within`. */
  readonly goes?: "until-kept";
}

interface Cut {
  readonly table: string;
  readonly key: string;
  /** Which rows `s` are looked at at all: those old by their key. */
  readonly within?: string;
  /** From `seen` on: a CTE `gone` with a row for each that went. */
  readonly gone: string;
}

/** `$1` the age, `$2` where the last batch ended, `$3` rows. Planned for that many rows, not for any. */
const batch = (name: string, { table, key, within = "true", gone }: Cut): Statement => ({
  name,
  plan: "each-time",
  text: `
with mine as materialized (select pg_try_advisory_xact_lock(${lockKey}) as held),
seen as materialized (
  select s.${key} as key from ${table} s where (select held from mine) and s.${key} > $2 and ${within} order by s.${key} limit $3),
${gone}
select (select count(*) from seen)::int as seen, (select count(*) from gone)::int as gone,
  (select key::text from seen order by key desc limit 1) as last`,
});

const noId = "00000000-0000-0000-0000-000000000000";

const secrets: Batched = {
  statement: batch("prune-task-secrets", { table: "task_secret", key: "task_id", gone: pruneSecrets }),
  first: noId,
};

const attempts: Batched = {
  statement: batch("prune-attempts", {
    table: "task",
    key: "id",
    within: "s.id < $1::uuid",
    gone: `old as materialized (
  select key from seen where not exists (select from attempt a where a.task_id = key and a.rank < 9)),
over as (delete from attempt a using old where a.task_id = old.key returning a.id),
logs as (delete from attempt_log g using over where g.attempt_id = over.id),
late as (delete from late_result r using over where r.attempt_id = over.id),
gone as (delete from task t using old where t.id = old.key returning 1)`,
  }),
  first: noId,
};

const submissions: Batched = {
  statement: batch("prune-submissions", {
    table: "submission",
    key: "id",
    within: "s.id < $1::uuid",
    gone: `gone as (delete from submission u using seen
  where u.id = seen.key and not exists (select from task t where t.submission_id = seen.key) returning 1)`,
  }),
  first: noId,
};

/** Logs of a day that had no partition yet: no partition takes them along. */
const strayLogs: Batched = {
  statement: batch("prune-stray-logs", {
    table: "log_chunk_other",
    key: "attempt_id",
    within: "s.attempt_id < $1::uuid",
    gone: `gone as (delete from log_chunk_other o using (select distinct key from seen) k where o.attempt_id = k.key returning 1)`,
  }),
  first: noId,
};

const audit: Batched = {
  statement: batch("prune-audit", {
    table: "audit",
    key: "id",
    gone: `gone as (delete from audit u using seen
  where u.id = seen.key and u.at < clock_timestamp() - make_interval(days => $1::int) returning 1)`,
  }),
  first: "0",
  goes: "until-kept",
};

/** A row per agent and node at most. */
const refusals = {
  name: "prune-refusals",
  text: `delete from refusal where at < clock_timestamp() - make_interval(days => $1::int) returning 1 as one`,
};

/** One run; whichever node comes first does it, the others leave it alone. An abort ends it after the batch at hand. */
export async function prune(database: Database, clock: Clock, signal?: AbortSignal): Promise<void> {
  const before = (days: number): string => firstIdAt(clock.wallMs() - days * dayMs);
  const endMs = clock.monotonicMs() + runLimitMs;
  const isMine = await dropPartitions(database, partitionName(clock.wallMs() - keptDays.logs * dayMs));
  if (!isMine) return;
  const repeat = async ({ statement, first, goes }: Batched, age: string | number): Promise<void> => {
    for (let after = first; signal?.aborted !== true && clock.monotonicMs() < endMs;) {
      const startMs = clock.monotonicMs();
      const [row] = await rowsOf(database.relaxed, statement, [age, after, rowsPerBatch], batchRow);
      const { seen = 0, gone = 0, last = null } = row ?? {};
      if (last === null || seen < rowsPerBatch || (goes === "until-kept" && gone < seen)) return;
      after = last;
      await clock.sleep(clock.monotonicMs() - startMs, signal).catch(() => undefined);
    }
  };
  await repeat(secrets, secretsKeptHours);
  await repeat(attempts, before(keptDays.attempts));
  await repeat(submissions, before(keptDays.attempts));
  await repeat(strayLogs, before(keptDays.logs));
  await repeat(audit, keptDays.audit);
  await database.relaxed.query(refusals, [keptDays.logs]);
}

/** Answers whether this node is the one that prunes now. */
async function dropPartitions(database: Database, oldest: string): Promise<boolean> {
  return await database.transaction(async (sql) => {
    const lock = { name: "", text: `select pg_try_advisory_xact_lock(${lockKey}) as held` };
    const [mine] = await rowsOf(sql, lock, [], z.object({ held: z.boolean() }));
    if (mine?.held !== true) return false;
    const old = {
      name: "",
      text: "select relname from pg_class where relname ~ '^log_chunk_[0-9]{8}$' and relname < $1",
    };
    for (const { relname } of await rowsOf(sql, old, [oldest], z.object({ relname: z.string() })))
      await sql.query({ name: "", text: `drop table ${relname}` }, []);
    return true;
  });
}

/** `log_chunk_20261123`: the names sort by day. */
export function partitionName(wallMs: number): string {
  return `log_chunk_${new Date(wallMs).toISOString().slice(0, 10).replaceAll("-", "")}`;
}
