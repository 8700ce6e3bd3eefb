// What is kept and what goes: whole partitions of old logs, old final tasks with all their rows, nothing that is open.
import { describe, expect, it } from "vitest";
import { ensurePartitions } from "../../server/store/partitions.ts";
import { partitionName, prune } from "../../server/store/retention.ts";
import { systemClock, type Clock } from "../../shared/clock.ts";
import { useLab } from "./fixture.ts";

const dayMs = 86_400_000;
const later = (days: number): Clock => ({ ...systemClock, wallMs: () => Date.now() + days * dayMs });

const lab = useLab();

describe("retention", () => {
  const partitions = async (): Promise<string[]> =>
    (await lab.sql(`select relname from pg_class where relname ~ '^log_chunk_[0-9]{8}$' order by relname`, [])).map(
      (row) => String(row["relname"]),
    );

  it("drops the partitions of logs older than 30 days and keeps the others", async () => {
    await ensurePartitions(lab.database, systemClock);
    await ensurePartitions(lab.database, later(40));
    const today = partitionName(Date.now());
    expect(await partitions()).toContain(today);
    await prune(lab.database, later(40));
    expect(await partitions()).not.toContain(today);
    expect(await partitions()).toContain(partitionName(Date.now() + 40 * dayMs));
  });

  it("removes final tasks after 90 days with attempts and logs, and keeps open ones however old", async () => {
    const agent = await lab.agent();
    const open = await lab.queueOne(agent);
    const over = await lab.queueOne(agent);
    await lab.sql(`update attempt set rank = 9, state = 'cancelled' where id = $1`, [over.attempt]);
    await prune(lab.database, later(89));
    expect(await lab.sql(`select id from task where id = $1`, [over.task])).toHaveLength(1);
    await prune(lab.database, later(91));
    expect(await lab.sql(`select id from task where id = any($1)`, [[open.task, over.task]])).toEqual([
      { id: open.task },
    ]);
    expect(await lab.sql(`select attempt_id from attempt_log where attempt_id = $1`, [over.attempt])).toEqual([]);
  });
});
