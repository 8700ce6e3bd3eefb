// What is shown of a spec: the same whether it was stored beside a large spec or is made from the spec when it is read; and
// how much of large specs a page of tasks reads.
import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { beforeAll, describe, expect, it } from "vitest";
import type { Sql } from "../../server/store/connection.ts";
import { listTasks } from "../../server/store/list-tasks.ts";
import { readTask } from "../../server/store/read-tasks.ts";
import { taskView } from "../../server/tasks/task-view.ts";
import { summarise, summariseForeign } from "../../shared/api/tasks.ts";
import type { TaskId } from "../../shared/ids.ts";
import { taskSpecSchema } from "../../shared/task.ts";
import { first, newSubmission, newTask, useLab, type TestAgent } from "./fixture.ts";

const lab = useLab();
const large = 500_000;
const noise = randomBytes(large).toString("base64").slice(0, large);
const script = (text: string, more: object = {}) => taskSpecSchema.parse({ kind: "script", script: text, ...more });

/** Counts the characters of each answer, as what a statement brings from the database. */
function counted(): { readonly sql: Sql; readonly answers: { readonly name: string; readonly chars: number }[] } {
  const answers: { readonly name: string; readonly chars: number }[] = [];
  const query: Sql["query"] = async (statement, values) => {
    const rows = await lab.database.durable.query(statement, values);
    answers.push({ name: statement.name, chars: JSON.stringify(rows).length });
    return rows;
  };
  return { sql: { query }, answers };
}

const page = (sql: Sql, agent: TestAgent, limit = 201) =>
  listTasks(sql, { limit, before: null, agent: agent.name, state: undefined });

async function stored(agent: TestAgent, specs: readonly string[]): Promise<TaskId[]> {
  const tasks = specs.map((spec) => newTask(agent.id, { spec }));
  expect(await lab.store.submit(newSubmission(lab.node, tasks))).toMatchObject({ kind: "stored" });
  return tasks.map(({ task }) => task);
}

/** As a version before the column stored it. */
const forget = (tasks: readonly TaskId[]) =>
  lab.sql("update task set summary = null where id = any($1::uuid[])", [tasks]);

describe("what is shown of a spec", () => {
  const tail = `\n: ${noise.slice(0, 5_000)}`;
  it.each([
    ["a script", script(`#!/bin/sh\n\n  echo one  \r\necho two${tail}`, { interpreter: "/bin/sh", timeoutMs: 7_000 })],
    ["a small script", script("echo one")],
    ["a title cut in the middle of a character", script(`${"x".repeat(119)}\u{1F600} and more${tail}`)],
    ["a title of quotes and separators", script(`"\\\u2028\u00a0\u0001'${tail}`)],
    ["remarks alone", script(`# one\n# two\n${"#".repeat(3_000)}`)],
    ["a script of multi-byte characters", script("é".repeat(900))],
    ["no text", script(" \n".repeat(2_000))],
    ["an interpreter of the longest name", script(`echo one${tail}`, { interpreter: `/${"é".repeat(1_023)}` })],
    ["a no-op", taskSpecSchema.parse({ kind: "no-op" })],
    [
      "an update",
      taskSpecSchema.parse({
        kind: "update",
        sha256: "0123456789abcdef".repeat(4),
        servers: Array.from({ length: 8 }, (_, at) => `https://${"h".repeat(200)}.example:${at + 1}`),
      }),
    ],
  ])("of %s is the same with and without the column, alone and listed", async (_of, spec) => {
    const agent = await lab.agent();
    const text = JSON.stringify(spec);
    const tasks = await stored(agent, [text]);
    const task = first(tasks);
    const columns = await lab.sql("select summary is not null as kept from task where id = $1", [task]);
    expect(columns).toEqual([{ kept: Buffer.byteLength(text) > 1_024 }]);
    const views = async () => {
      const [listed] = await page(lab.database.durable, agent);
      const alone = await readTask(lab.database.durable, task);
      if (listed === undefined || alone === undefined) throw new Error("no task");
      return [JSON.stringify(taskView(listed, "listed").spec), JSON.stringify(taskView(alone).spec)];
    };
    const expected = JSON.stringify(summarise(spec));
    expect(await views()).toEqual([expected, expected]);
    await forget(tasks);
    expect(await views()).toEqual([expected, expected]);
  });

  it("is what a later version stored of a spec that this one does not understand, if this one understands that", async () => {
    const agent = await lab.agent();
    const [task] = await stored(agent, [JSON.stringify(script(noise))]);
    const foreign = { kind: "tunnel", port: 22, padding: noise };
    const summary = { kind: "tunnel", title: "to 22", interpreter: null, scriptBytes: 0, timeoutMs: null };
    const shown = async (column: object | null) => {
      const text = column === null ? null : JSON.stringify(column);
      await lab.sql("update task set spec = $2, summary = $3 where id = $1", [task, JSON.stringify(foreign), text]);
      return first(await page(lab.database.durable, agent)).spec;
    };
    const { secrets: _, ...unknown } = summariseForeign(foreign, []);
    expect(await shown({ ...summary, port: 22 })).toEqual(summary);
    expect(await shown(null)).toEqual(unknown);
    expect(await shown({ kind: "tunnel", lines: ["to 22"] })).toEqual(unknown);
  });
});

describe("a page of large specs", () => {
  const specs = Array.from({ length: 20 }, (_, at) => JSON.stringify(script(`echo ${at}\n${noise}`)));
  const titles = specs.map((_, at) => `echo ${at}`).toReversed();
  let agent: TestAgent;
  let tasks: TaskId[];

  beforeAll(async () => {
    agent = await lab.agent();
    tasks = await stored(agent, specs);
  });

  it("brings nothing of them from the database but what it shows", async () => {
    const { sql, answers } = counted();
    expect((await page(sql, agent)).map(({ spec }) => spec.title)).toEqual(titles);
    expect(answers).toEqual([{ name: "list-tasks", chars: expect.any(Number) }]);
    expect(first(answers).chars).toBeLessThan(specs.length * 2_000);
  });

  it("leaves them where they lie: the database does not put one together", async () => {
    const client = new Client({ connectionString: lab.url });
    await client.connect();
    const sql: Sql = { query: async ({ text }, values) => (await client.query(text, [...values])).rows };
    // Of this connection alone: a vacuum counts elsewhere.
    const fetched = async (): Promise<unknown> =>
      (
        await client.query(
          "select pg_stat_get_xact_blocks_fetched(reltoastrelid)::int as pages from pg_class where oid = 'task'::regclass",
        )
      ).rows;
    await client.query("begin");
    expect(await page(sql, agent)).toHaveLength(specs.length);
    expect(await fetched()).toEqual([{ pages: 0 }]);
    await client.query("select sum(length(spec)) from task where id = $1", [tasks[0]]);
    expect(await fetched()).not.toEqual([{ pages: 0 }]);
    await client.end();
  });

  it("holds one of them at once where an earlier version stored them, and small ones together", async () => {
    const small = await stored(
      agent,
      Array.from({ length: 20 }, (_, at) => JSON.stringify(script(`echo small ${at}\n${noise.slice(0, 4_000)}`))),
    );
    await forget([...tasks, ...small]);
    const { sql, answers } = counted();
    const found = await page(sql, agent);
    expect(found.map(({ spec }) => spec.title)).toEqual([
      ...small.map((_, at) => `echo small ${at}`).toReversed(),
      ...titles,
    ]);
    const reads = answers.filter(({ name }) => name === "read-specs");
    expect(reads).toHaveLength(1 + tasks.length);
    expect(Math.max(...answers.map(({ chars }) => chars))).toBeLessThan(1.1 * large);
  });
});
