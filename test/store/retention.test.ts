// What is kept and what goes: whole partitions of old logs, old final tasks with all their rows, nothing that is open.
import { describe, expect, it } from "vitest";
import { ensurePartitions } from "../../server/store/partitions.ts";
import { partitionName, prune, rowsPerBatch } from "../../server/store/retention.ts";
import { systemClock, type Clock } from "../../shared/clock.ts";
import { attemptIdSchema, newId } from "../../shared/ids.ts";
import { ids, useLab } from "./fixture.ts";

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

  const count = async (table: string): Promise<unknown> =>
    (await lab.sql(`select count(*)::int as n from ${table}`))[0]?.["n"];

  it("takes all that is old in one run, in batches that are bounded by what they look at", async () => {
    const agent = await lab.agent();
    // More than a batch of open ones, which stay, stand before those that go.
    const open = await lab.queue(agent, { count: rowsPerBatch + 10 });
    const over = (await Promise.all(Array.from({ length: 3 }, () => lab.queue(agent, { count: rowsPerBatch })))).flat();
    await lab.sql(`update attempt set rank = 9, state = 'succeeded' where id = any($1)`, [
      over.map(({ attempt }) => attempt),
    ]);
    await prune(lab.database, later(91));
    const left = await lab.sql(`select task_id as id from attempt where agent_id = $1 order by 1`, [agent.id]);
    expect(left.map(({ id }) => id)).toEqual(open.map(({ task }) => task).toSorted());
    expect(await lab.sql(`select id from task where id = any($1)`, [over.map(({ task }) => task)])).toEqual([]);
    const orphans = `submission s where not exists (select from task t where t.submission_id = s.id)`;
    expect(await count(orphans)).toBe(0);
  });

  it("removes audit rows and logs of days without a partition at their age, and no younger ones", async () => {
    const stray = newId(ids, attemptIdSchema);
    await lab.sql(
      `insert into log_chunk_other (attempt_id, stream, start_offset, length)
       select $1, 0, n, 1 from generate_series(0, $2) n`,
      [stray, 2 * rowsPerBatch],
    );
    await lab.sql("delete from audit");
    const audited = `insert into audit (at, actor, address, action, target)
      select clock_timestamp() - make_interval(days => $1), 'a', '', 'submit', '' from generate_series(1, $2)`;
    await lab.sql(audited, [401, 2 * rowsPerBatch + 1]);
    await lab.sql(audited, [399, 3]);
    await prune(lab.database, later(29));
    expect(await count("log_chunk_other")).toBe(2 * rowsPerBatch + 1);
    expect(await count("audit")).toBe(3);
    await prune(lab.database, later(31));
    expect(await count("log_chunk_other")).toBe(0);
  });

  it("leaves all to the node that is at it, and stops when its own node does", async () => {
    const agent = await lab.agent();
    const { task, attempt } = await lab.queueOne(agent);
    await lab.sql(`update attempt set rank = 9, state = 'succeeded' where id = $1`, [attempt]);
    const isThere = async (): Promise<boolean> =>
      (await lab.sql(`select from task where id = $1`, [task])).length === 1;
    await lab.database.transaction(async (sql) => {
      await sql.query({ name: "", text: "select pg_advisory_xact_lock(7305511902006)" }, []);
      await prune(lab.database, later(91));
    });
    expect(await isThere()).toBe(true);
    await prune(lab.database, later(91), AbortSignal.abort());
    expect(await isThere()).toBe(true);
    await prune(lab.database, later(91));
    expect(await isThere()).toBe(false);
  });
});
