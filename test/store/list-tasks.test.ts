// Pages of tasks: each filter finds what reading every task would find, and none of them reads more the longer the history is.
import { beforeAll, describe, expect, it } from "vitest";
import { Client } from "pg";
import { makeHistory } from "../../bench/many-rows.ts";
import { explained } from "../../bench/plan.ts";
import { buildIndexes } from "../../server/store/indexes.ts";
import { listTasks, type TaskPage } from "../../server/store/list-tasks.ts";
import { attemptIdSchema, newId, type TaskId } from "../../shared/ids.ts";
import { rankOf, taskStates } from "../../shared/task.ts";
import { ids, useLab, type TestAgent } from "./fixture.ts";

const lab = useLab();
const agents: TestAgent[] = [];
const history = 8_000;

beforeAll(async () => {
  agents.push(await lab.agent(), await lab.agent());
  const sql = new Client({ connectionString: lab.url });
  await sql.connect();
  await makeHistory(sql, { rows: history, agents, days: 10, node: lab.node.id });
  await sql.end();
  // A few of every state, as newest, and each fourth task retried: what it came to first is not what it is.
  for (const agent of agents)
    for (const state of taskStates)
      for (const [index, { task, attempt }] of (await lab.queue(agent, { count: 4 })).entries()) {
        await lab.sql(
          `update attempt set rank = $2, state = $3, accepted_at = clock_timestamp(), started_at = clock_timestamp() where id = $1`,
          [attempt, rankOf(state), state],
        );
        if (index === 0)
          await lab.sql(
            `insert into attempt (id, task_id, agent_id, number, lane, rank, state) values ($1, $2, $3, 2, 'work', 9, 'refused')`,
            [newId(ids, attemptIdSchema), task, agent.id],
          );
      }
});

const page = (change: Partial<TaskPage>) =>
  listTasks(lab.database.durable, { limit: 7, before: null, agent: undefined, state: undefined, ...change });

/** By reading all. */
async function expected({ agent, state, before, limit = 7 }: Partial<TaskPage>): Promise<unknown[]> {
  const rows = await lab.sql(
    `select t.id from task t join agent g on g.id = t.agent_id
     join lateral (select state from attempt a where a.task_id = t.id order by number desc limit 1) a on true
     where ($1::text is null or g.name = $1) and ($2::text is null or a.state = $2) and ($3::uuid is null or t.id < $3)
     order by t.id desc limit $4`,
    [agent ?? null, state ?? null, before ?? null, limit],
  );
  return rows.map(({ id }) => id);
}

const filters = (): Partial<TaskPage>[] =>
  [undefined, agents[0]?.name].flatMap((agent) => [undefined, ...taskStates].map((state) => ({ agent, state })));

describe("pages of tasks", () => {
  it("hold what reading every task would find, page after page, for every filter, with and without the indexes", async () => {
    const compare = async (): Promise<void> => {
      for (const filter of filters()) {
        let before: TaskId | null = null;
        for (let turn = 0; turn < 2; turn += 1) {
          const found: TaskId[] = (await page({ ...filter, before })).map(({ id }) => id);
          expect({ filter, before, found }).toEqual({ filter, before, found: await expected({ ...filter, before }) });
          before = found.at(-1) ?? before;
        }
      }
    };
    await compare();
    await buildIndexes(lab.database);
    await compare();
  });

  it("read no more than their own rows, whatever they are asked for", async () => {
    await buildIndexes(lab.database);
    const sql = new Client({ connectionString: lab.url });
    await sql.connect();
    await sql.query("vacuum analyze");
    const read: Record<string, number> = {};
    for (const filter of filters()) {
      const query = { limit: 50, before: null, agent: undefined, state: undefined, ...filter };
      const plan = (await explained(sql, (asked) => listTasks(asked, query)))["list-tasks"];
      const found = (await page({ ...filter, limit: 50 })).length;
      // A task in full is 20 pages. The walk is past what is newest here, tasks of all states.
      read[JSON.stringify(filter)] = (plan?.buffers.hit ?? Infinity) + (plan?.buffers.read ?? 0) - 25 * found;
    }
    await sql.end();

    expect(Object.entries(read).filter(([, pages]) => pages > 500)).toEqual([]);
  });
});

describe("the indexes behind them", () => {
  it("are built once, and anew when a build was cut short", async () => {
    await buildIndexes(lab.database);
    expect(await buildIndexes(lab.database)).toEqual([]);
    const sql = new Client({ connectionString: lab.url });
    await sql.connect();
    await sql.query("drop index attempt_state_other");
    // Lanes are alike: the build fails and leaves an index that is not whole, as a crash does.
    await expect(sql.query("create unique index concurrently attempt_state_other on attempt (lane)")).rejects.toThrow(
      /unique/,
    );
    await sql.end();
    expect(await buildIndexes(lab.database)).toEqual(["attempt_state_other"]);
    const standing = await lab.sql(
      `select indisvalid, pg_get_indexdef(indexrelid) as on from pg_index where indexrelid = 'attempt_state_other'::regclass`,
    );
    expect(standing).toEqual([{ indisvalid: true, on: expect.stringContaining("(state, task_id)") }]);
  });

  it("are built once by nodes that start together", async () => {
    await lab.sql("drop index if exists attempt_state_other");
    const others = await Promise.all([lab.connect(), lab.connect()]);
    await Promise.all([lab.database, ...others].map((database) => buildIndexes(database)));
    const whole = await lab.sql(
      `select indisvalid from pg_index where indexrelid in ('attempt_state_other'::regclass, 'attempt_trouble'::regclass)`,
    );
    expect(whole).toEqual([{ indisvalid: true }, { indisvalid: true }]);
  });

  it("take the place of what an earlier version built, once they stand", async () => {
    await buildIndexes(lab.database);
    await lab.sql("drop index attempt_state_queued");
    await lab.sql("create index attempt_state on attempt (state, task_id) where rank in (0, 9)");
    expect(await buildIndexes(lab.database)).toEqual(["attempt_state_queued"]);
    const standing = await lab.sql(
      "select indexname as name from pg_indexes where indexname like 'attempt_state%' order by 1",
    );
    const names = ["attempt_state_other", "attempt_state_queued", "attempt_state_succeeded"];
    expect(standing).toEqual(names.map((name) => ({ name })));
  });

  it("leave the build to PostgreSQL when the node stops", async () => {
    const stopping = new AbortController();
    stopping.abort();
    expect(await buildIndexes(lab.database, stopping.signal)).toEqual([]);
  });
});
