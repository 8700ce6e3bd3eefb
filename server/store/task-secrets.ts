// The sealed secrets of tasks: read for the attempts that are about to be offered, and gone 24 hours after a task's last
// attempt has ended; until then a person may retry it. Written with their tasks by submit-tasks.ts. Holds ciphertext only.
import { z } from "zod";
import { taskIdSchema } from "../../shared/ids.ts";
import type { ClaimedAttempt } from "./claim-attempts.ts";
import type { Sql } from "./connection.ts";
import { rowsOf } from "./rows.ts";

/** How long after its end a task can be retried with its secrets. */
export const secretsKeptHours = 24;

const read = {
  name: "read-task-secrets",
  text: `select task_id as task, sealed from task_secret where task_id = any($1::uuid[])`,
};
const secretRow = z.object({ task: taskIdSchema, sealed: z.instanceof(Uint8Array) });

/** Reads nothing when none of them has secrets. One whose secrets are gone comes back without. */
export async function withSecrets(sql: Sql, claimed: readonly ClaimedAttempt[]): Promise<ClaimedAttempt[]> {
  const having = claimed.filter(({ secretNames }) => secretNames !== undefined).map(({ task }) => task);
  if (having.length === 0) return [...claimed];
  const rows = await rowsOf(sql, read, [having], secretRow);
  const sealed = new Map(rows.map((row) => [row.task, row.sealed]));
  return claimed.map((attempt) => ({ ...attempt, sealedSecrets: sealed.get(attempt.task) }));
}

/** Of the tasks that retention looks at, those whose last attempt ended `$1` hours ago. Of a task that is gone nothing stays. */
export const pruneSecrets = `gone as (delete from task_secret s using seen
  where s.task_id = seen.key and not exists (
    select from attempt a where a.task_id = seen.key
      and (a.rank < 9 or coalesce(a.finished_at, a.created_at) > clock_timestamp() - make_interval(hours => $1::int)))
  returning 1)`;
