// Daily partitions of log_chunk, made ahead of need; retention drops whole days. Rows of a day without a partition go to
// the default one, so a missed run loses nothing.
import type { Clock } from "../../shared/clock.ts";
import { firstIdAt } from "../../shared/ids.ts";
import type { Database } from "./connection.ts";
import { partitionName } from "./retention.ts";

const dayMs = 86_400_000;
const daysAhead = 3;
const lockKey = 7_305_511_902_005;

/** Makes today's partition and the next three. Rows already in the default partition stay readable there. */
export async function ensurePartitions(database: Database, clock: Clock): Promise<void> {
  const today = Math.floor(clock.wallMs() / dayMs);
  await database.transaction(async (sql) => {
    await sql.query({ name: "", text: "select pg_advisory_xact_lock($1)" }, [lockKey]);
    for (let day = today; day <= today + daysAhead; day += 1) {
      const name = partitionName(day * dayMs);
      const exists = await sql.query({ name: "", text: "select 1 from pg_class where relname = $1" }, [name]);
      if (exists.length > 0) continue;
      const [from, to] = [firstIdAt(day * dayMs), firstIdAt((day + 1) * dayMs)];
      const taken = await sql.query(
        { name: "", text: "select 1 from log_chunk_other where attempt_id >= $1 and attempt_id < $2 limit 1" },
        [from, to],
      );
      if (taken.length > 0) continue;
      await sql.query(
        { name: "", text: `create table ${name} partition of log_chunk for values from ('${from}') to ('${to}')` },
        [],
      );
    }
  });
}
