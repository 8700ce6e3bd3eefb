// Every statement that locks several rows locks them in the order of their ids, attempts before their logs, so that
// batches of different verbs cannot deadlock. Shown row by row: while the first row is held by somebody else, a verb
// over rows stored the other way round must hold none of the others.
import { describe, expect, it } from "vitest";
import { appendLog } from "../../server/store/append-log.ts";
import { cancelTasks } from "../../server/store/cancel-tasks.ts";
import type { Sql } from "../../server/store/connection.ts";
import { finishAttempts } from "../../server/store/finish-attempts.ts";
import { greetAgent } from "../../server/store/greet-agent.ts";
import { loseAttempts } from "../../server/store/lose-attempts.ts";
import { writePresence } from "../../server/store/presence.ts";
import { noteProgress } from "../../server/store/note-progress.ts";
import { progressAttempts } from "../../server/store/progress-attempts.ts";
import { refuseAttempts } from "../../server/store/refuse-attempts.ts";
import { releaseOffers } from "../../server/store/release-offers.ts";
import { removeAgent } from "../../server/store/remove-agent.ts";
import { resumeAttempts } from "../../server/store/resume-attempts.ts";
import { submitTasks } from "../../server/store/submit-tasks.ts";
import { sweepAttempts } from "../../server/store/sweep-attempts.ts";
import {
  first,
  greetingOf,
  newBoot,
  newSubmission,
  newTask,
  resultRecord,
  useLab,
  type QueuedTask,
  type TestAgent,
} from "./fixture.ts";

const lab = useLab();
const raw = (text: string) => ({ name: "", text });

interface Case {
  readonly agent: TestAgent;
  readonly tasks: readonly QueuedTask[];
}

const identified = ({ agent, tasks }: Case) =>
  tasks.map(({ attempt }) => ({ attempt, agent: agent.id, journalId: agent.journalId, node: lab.node.id }));

const verbs: Record<
  string,
  { readonly locks: "attempts and logs" | "attempts" | "logs"; readonly run: (on: Case) => Promise<unknown> }
> = {
  progress: {
    locks: "attempts and logs",
    run: (on) =>
      progressAttempts(
        lab.database.relaxed,
        identified(on).map((item) => ({ ...item, homeNo: 1, reached: "accepted" })),
      ),
  },
  "note progress": {
    locks: "attempts",
    run: (on) =>
      noteProgress(
        lab.database.relaxed,
        identified(on).map((item) => ({ ...item, homeNo: 1, percent: 40, message: "copying" })),
      ),
  },
  "refuse never": {
    locks: "attempts and logs",
    run: (on) =>
      refuseAttempts(
        lab.database.durable,
        identified(on).map((item) => ({ ...item, offerNo: 1, class: "never", reason: "policy" })),
      ),
  },
  release: {
    locks: "attempts",
    run: ({ tasks }) =>
      releaseOffers(
        lab.database.relaxed,
        lab.node.id,
        tasks.map(({ attempt }) => ({ attempt, offerNo: 1 })),
      ),
  },
  append: {
    locks: "logs",
    run: (on) =>
      appendLog(
        lab.database.relaxed,
        identified(on).map((item) => ({ ...item, homeNo: 1, runs: { out: { from: 0, pieces: [{ omitted: 1 }] } } })),
      ),
  },
  finish: {
    locks: "attempts and logs",
    run: (on) =>
      finishAttempts(
        lab.database.durable,
        identified(on).map((item) => ({ ...item, record: resultRecord() })),
      ),
  },
  resume: {
    locks: "attempts and logs",
    run: (on) =>
      resumeAttempts(
        lab.database.durable,
        identified(on).map((item) => ({ ...item, homeNo: 2 })),
      ),
  },
  lose: {
    locks: "attempts and logs",
    run: ({ agent, tasks }) =>
      loseAttempts(
        lab.database.durable,
        tasks.map(({ attempt }) => ({ attempt, agent: agent.id, journalId: agent.journalId, answer: "collected" })),
      ),
  },
  cancel: {
    locks: "attempts",
    run: ({ tasks }) =>
      cancelTasks(
        lab.database.durable,
        tasks.map(({ task }) => task),
        { principal: "tester", address: "" },
      ),
  },
  "remove an agent": {
    locks: "attempts and logs",
    run: ({ agent }) => removeAgent(lab.database.durable, { nameOrId: agent.id, principal: "tester", address: "" }),
  },
  "greet with another journal": {
    locks: "attempts and logs",
    run: ({ agent }) => greetAgent(lab.database, greetingOf({ ...agent, ...newBoot() })),
  },
  "sweep of the unreachable": {
    locks: "logs",
    run: async ({ agent }) => {
      await lab.sql(`update agent set last_seen_at = clock_timestamp() - interval '2 days' where id = $1`, [agent.id]);
      await lab.sql(
        `update node set started_at = clock_timestamp() - interval '1 hour', heartbeat_at = clock_timestamp() where id = $1`,
        [lab.node.id],
      );
      await sweepAttempts(lab.database.durable);
    },
  },
};

/** Eight offered attempts whose rows lie in the opposite order of their ids; the smallest id first in the answer. */
async function storedBackwards(): Promise<Case> {
  const agent = await lab.agent();
  const planned = Array.from({ length: 8 }, () => newTask(agent.id));
  await lab.store.submit(newSubmission(lab.node, planned.toReversed()));
  await lab.claim(agent, { credit: 8 });
  await lab.sql(`update attempt set created_at = created_at - interval '2 days' where agent_id = $1`, [agent.id]);
  return { agent, tasks: planned.map(({ task, attempt }) => ({ task, attempt, agent: agent.id })) };
}

/** Runs `act` while another transaction holds the first row; answers how many of the others `act` held by then. */
async function heldMeanwhile(
  act: () => Promise<unknown>,
  rows: { readonly table: string; readonly key: string; readonly ids: readonly string[] },
): Promise<number> {
  const { table, key, ids } = rows;
  let pending: Promise<unknown> = Promise.resolve();
  const held = await lab.database.transaction(async (sql) => {
    await sql.query(raw(`select 1 from ${table} where ${key} = $1 for update`), [first(ids)]);
    pending = act();
    await untilBlocked(sql);
    const free = await sql.query(raw(`select 1 from ${table} where ${key} = any($1) for update skip locked`), [
      ids.slice(1),
    ]);
    return ids.length - 1 - free.length;
  });
  await pending;
  return held;
}

/** Asks from outside: within a transaction pg_stat_activity shows the same moment again and again. */
async function untilBlocked(sql: Sql): Promise<void> {
  const { pid } = first((await sql.query(raw("select pg_backend_pid() as pid"), [])) as { pid: number }[]);
  const waiting = () => lab.sql(`select 1 from pg_stat_activity where $1 = any(pg_blocking_pids(pid))`, [pid]);
  const message = "the verb waits for the row held";
  await expect.poll(async () => (await waiting()).length, { timeout: 5_000, interval: 5, message }).toBeGreaterThan(0);
}

const lockers = Object.entries(verbs);

describe("rows stored in the opposite order of their ids", () => {
  it.each(lockers.filter(([, { locks }]) => locks !== "logs").map(([name]) => name))(
    "%s locks attempts in the order of their ids",
    async (name) => {
      const on = await storedBackwards();
      const ids = on.tasks.map(({ attempt }) => attempt);
      expect(await heldMeanwhile(async () => await verbs[name]?.run(on), { table: "attempt", key: "id", ids })).toBe(0);
    },
  );

  it.each(lockers.filter(([, { locks }]) => locks !== "attempts").map(([name]) => name))(
    "%s locks logs in the order of their attempts' ids",
    async (name) => {
      const on = await storedBackwards();
      const ids = on.tasks.map(({ attempt }) => attempt);
      expect(
        await heldMeanwhile(async () => await verbs[name]?.run(on), { table: "attempt_log", key: "attempt_id", ids }),
      ).toBe(0);
    },
  );

  it.each(["cancel", "expiry"])("%s of queued tasks locks logs in the order of their attempts' ids", async (kind) => {
    const agent = await lab.agent();
    const tasks = Array.from({ length: 8 }, () => newTask(agent.id));
    await lab.store.submit(newSubmission(lab.node, tasks.toReversed()));
    const wanted = tasks.map(({ task }) => task);
    await lab.sql(`update attempt set expires_at = clock_timestamp() where task_id = any($1)`, [
      kind === "expiry" ? wanted : [],
    ]);
    const act = () =>
      kind === "cancel"
        ? cancelTasks(lab.database.durable, wanted, { principal: "tester", address: "" })
        : sweepAttempts(lab.database.durable);
    expect(
      await heldMeanwhile(act, { table: "attempt_log", key: "attempt_id", ids: tasks.map(({ attempt }) => attempt) }),
    ).toBe(0);
  });

  it("presence locks agents in the order of their ids", async () => {
    const agents = await Promise.all(Array.from({ length: 8 }, () => lab.agent()));
    const ids = agents.map(({ id }) => id).toSorted();
    const changes = ids
      .toReversed()
      .map((agent) => ({ agent, node: lab.node.id, nodeBootId: lab.node.bootId, change: "connected" as const }));
    expect(
      await heldMeanwhile(() => writePresence(lab.database.relaxed, changes), {
        table: "agent",
        key: "id",
        ids: ids as string[],
      }),
    ).toBe(0);
  });

  it("submissions take their keys in one order whatever order they come in", async () => {
    const agent = await lab.agent();
    const keys = Array.from({ length: 8 }, (_, index) => `order-${agent.id}-${index}`);
    const make = (key: string) => newSubmission(lab.node, [newTask(agent.id)], key);
    let pending: Promise<unknown> = Promise.resolve();
    await lab.database.transaction(async (sql) => {
      await submitTasks(sql, [make(first(keys))]);
      pending = submitTasks(lab.database.durable, keys.toReversed().map(make));
      await untilBlocked(sql);
      // Were any of these keys taken by the waiting batch already, this would be a deadlock.
      const outcomes = await submitTasks(sql, keys.slice(1).map(make));
      expect(outcomes.map(({ kind }) => kind)).toEqual(Array(7).fill("stored"));
    });
    expect(await pending).toEqual(
      Array(8)
        .fill({ kind: "mismatch" })
        .map(() => expect.objectContaining({ kind: "repeated" })),
    );
  });
});

describe("a deadlock", () => {
  it("is seen and named when there is one, so that its absence elsewhere means something", async () => {
    const { tasks } = await storedBackwards();
    const [one, two] = tasks.map(({ attempt }) => attempt);
    const lock = raw(`select 1 from attempt where id = $1 for update`);
    const [other, mine] = [await lab.connect(), await lab.connect()];
    const reached = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const crosswise = (database: typeof mine, order: readonly [string | undefined, string | undefined], place: 0 | 1) =>
      database.transaction(async (sql) => {
        await sql.query(lock, [order[0]]);
        reached[place]?.resolve();
        await Promise.all(reached.map(({ promise }) => promise));
        await sql.query(lock, [order[1]]);
      });
    const outcomes = await Promise.allSettled([crosswise(mine, [one, two], 0), crosswise(other, [two, one], 1)]);
    expect(outcomes.filter(({ status }) => status === "rejected")).toMatchObject([
      { reason: { code: "database.conflict", cause: { code: "40P01" } } },
    ]);
  });
});
