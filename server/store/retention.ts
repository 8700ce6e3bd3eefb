// What is kept, and for how long (SECURITY 5): logs 30 days by dropping whole partitions, attempts 90 days and audit rows
// 400 days in bounded batches, secrets until 24 hours after the end of their task. Everything is cut by id or time of creation, so that a run can stop anywhere.
import type { Clock } from "../../shared/clock.ts";
import { firstIdAt } from "../../shared/ids.ts";
import type { Database } from "./connection.ts";
import { pruneSecrets, secretsKeptHours } from "./task-secrets.ts";

const dayMs = 86_400_000;
export const keptDays = { logs: 30, attempts: 90, audit: 400 } as const;
const rowsPerBatch = 1_000;
const batchesPerRun = 50;
const lockKey = 7_305_511_902_006;

const attempts = {
  name: "prune-attempts",
  text: `
with old as (
  select t.id from task t where t.id < $1 and not exists (select from attempt a where a.task_id = t.id and a.rank < 9)
  order by t.id limit $2),
gone as (delete from attempt a using old where a.task_id = old.id returning a.id),
logs as (delete from attempt_log g using gone where g.attempt_id = gone.id),
late as (delete from late_result r using gone where r.attempt_id = gone.id)
delete from task t using old where t.id = old.id returning 1 as one`,
};

const submissions = {
  name: "prune-submissions",
  text: `delete from submission where id in (
    select s.id from submission s where s.id < $1 and not exists (select from task t where t.submission_id = s.id) order by s.id limit $2)
  returning 1 as one`,
};

const audit = {
  name: "prune-audit",
  text: `delete from audit where id in (
    select id from audit where at < clock_timestamp() - make_interval(days => $1::int) order by id limit $2) returning 1 as one`,
};

const refusals = {
  name: "prune-refusals",
  text: `delete from refusal where ctid in (
    select ctid from refusal where at < clock_timestamp() - make_interval(days => $1::int) limit $2) returning 1 as one`,
};

/** One bounded run; whichever node comes first does it, the others leave it alone. */
export async function prune(database: Database, clock: Clock): Promise<void> {
  const before = (days: number): string => firstIdAt(clock.wallMs() - days * dayMs);
  const isMine = await database.transaction(async (sql) => {
    const [lock] = await sql.query({ name: "", text: "select pg_try_advisory_xact_lock($1) as held" }, [lockKey]);
    if (typeof lock !== "object" || lock === null || !("held" in lock) || lock.held !== true) return false;
    const oldest = partitionName(clock.wallMs() - keptDays.logs * dayMs);
    const found = await sql.query(
      { name: "", text: "select relname from pg_class where relname ~ '^log_chunk_[0-9]{8}$' and relname < $1" },
      [oldest],
    );
    for (const row of found) {
      if (typeof row === "object" && row !== null && "relname" in row && typeof row.relname === "string") {
        await sql.query({ name: "", text: `drop table ${row.relname}` }, []);
      }
    }
    return true;
  });
  if (!isMine) return;
  const repeat = async (statement: typeof attempts, first: string | number): Promise<void> => {
    for (let batch = 0; batch < batchesPerRun; batch += 1) {
      const gone = await database.relaxed.query(statement, [first, rowsPerBatch]);
      if (gone.length < rowsPerBatch) return;
    }
  };
  await repeat(pruneSecrets, secretsKeptHours);
  await repeat(attempts, before(keptDays.attempts));
  await repeat(submissions, before(keptDays.attempts));
  await repeat(audit, keptDays.audit);
  await repeat(refusals, keptDays.logs);
}

/** `log_chunk_20261123`: the names sort by day. */
export function partitionName(wallMs: number): string {
  return `log_chunk_${new Date(wallMs).toISOString().slice(0, 10).replaceAll("-", "")}`;
}
