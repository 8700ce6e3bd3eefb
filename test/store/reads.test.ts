// What people and nodes read: tasks, submissions, the work feed, pending cancels, open attempts.
import { describe, expect, it } from "vitest";
import { attemptIdSchema, newId, submissionIdSchema, taskIdSchema } from "../../shared/ids.ts";
import { cancelTasks } from "../../server/store/cancel-tasks.ts";
import { recordAudit } from "../../server/store/audit.ts";
import { readCancels } from "../../server/store/read-cancels.ts";
import { listTasks } from "../../server/store/list-tasks.ts";
import { readSubmission, readTask } from "../../server/store/read-tasks.ts";
import { readKnownWork, readWorkFeed } from "../../server/store/read-work-feed.ts";
import { first, ids, newSubmission, newTask, resultRecord, useLab, type TestAgent } from "./fixture.ts";

const lab = useLab();
const sql = () => lab.database.durable;
const by = { principal: "tester", address: "" };
const finish = (agent: TestAgent, attempt: Parameters<typeof lab.attempt>[0]) =>
  lab.store.finish({
    attempt,
    agent: agent.id,
    journalId: agent.journalId,
    node: lab.node.id,
    record: resultRecord({ outcome: "failed", exitCode: 3 }),
  });
const page = (change: Partial<Parameters<typeof listTasks>[1]> = {}) =>
  listTasks(sql(), { limit: 50, before: null, agent: undefined, state: undefined, ...change });

describe("reading tasks", () => {
  it("shows a task with its attempts, its agent and what a queued one waits for", async () => {
    const agent = await lab.agent();
    const { task, attempt } = await lab.queueOne(agent);
    expect(await readTask(sql(), task)).toMatchObject({
      id: task,
      agent: agent.id,
      agentName: agent.name,
      agentStatus: "active",
      lane: "work",
      paused: false,
      nodes: [],
      agentPaused: false,
    });
    await lab.store.presence({ agent: agent.id, node: lab.node.id, nodeBootId: lab.node.bootId, change: "connected" });
    await lab.claim(agent);
    await finish(agent, attempt);
    const found = await readTask(sql(), task);
    expect(found?.nodes).toEqual([{ name: "node-a", draining: false, active: 0, cap: 1_000 }]);
    expect(found?.attempts).toMatchObject([
      {
        id: attempt,
        number: 1,
        state: "failed",
        exitCode: 3,
        offers: 1,
        home: "node-a",
        finishedAt: expect.any(String),
      },
    ]);
    expect(await readTask(sql(), newId(ids, taskIdSchema))).toBeUndefined();
  });

  it("shows output variables of one task, lists tasks without them, and takes a resend that lost them for the same", async () => {
    const agent = await lab.agent();
    const { task, attempt } = await lab.queueOne(agent);
    await lab.claim(agent);
    const outputs = [
      { name: "constructor", value: "one\ntwo" },
      { name: "NUL", value: "a\0b" },
    ];
    const { id: finisher, journalId } = agent;
    const send = (record: Parameters<typeof lab.store.finish>[0]["record"]) =>
      lab.store.finish({ attempt, agent: finisher, journalId, node: lab.node.id, record });
    expect(await send(resultRecord({ outputs }))).toEqual({ kind: "stored" });
    // A node of an earlier version passes on what it knows.
    expect(await send(resultRecord())).toEqual({ kind: "same" });
    const stored = [outputs[0], { name: "NUL", value: "a\u{FFFD}b" }];
    expect((await readTask(sql(), task))?.attempts).toMatchObject([{ outputs: stored, late: [] }]);
    expect((await page({ agent: agent.name }))[0]?.attempts).toMatchObject([{ outputs: null }]);
  });

  it("shows a task whose agent's row is gone", async () => {
    const agent = await lab.agent();
    const { task } = await lab.queueOne(agent);
    await lab.sql(`delete from agent where id = $1`, [agent.id]);
    expect(await readTask(sql(), task)).toMatchObject({ agentName: "", agentStatus: "removed" });
  });

  it("lists newest first, page by page, of one agent and of one state of the latest attempt", async () => {
    const agent = await lab.agent();
    const tasks = (await lab.queue(agent, { count: 4 })).toReversed();
    const wanted = tasks.map(({ task }) => task);
    const idsOf = (rows: readonly { id: unknown }[]) => rows.map(({ id }) => id);
    expect(idsOf(await page({ agent: agent.name }))).toEqual(wanted);
    expect(idsOf(await page({ agent: agent.id, limit: 2 }))).toEqual(wanted.slice(0, 2));
    expect(idsOf(await page({ agent: agent.name, before: wanted[1] ?? null }))).toEqual(wanted.slice(2));
    const ended = first(tasks);
    await cancelTasks(sql(), [ended.task], by);
    expect(idsOf(await page({ agent: agent.name, state: "cancelled" }))).toEqual([ended.task]);
    await lab.sql(`insert into attempt (id, task_id, agent_id, number, lane) values ($1, $2, $3, 2, 'work')`, [
      newId(ids, attemptIdSchema),
      ended.task,
      agent.id,
    ]);
    expect(idsOf(await page({ agent: agent.name, state: "cancelled" }))).toEqual([]);
    expect(first(await page({ agent: agent.name, state: "queued" })).attempts.map(({ number }) => number)).toEqual([
      1, 2,
    ]);
  });

  it("shows a submission with the states of its tasks", async () => {
    const agent = await lab.agent();
    const submission = newSubmission(lab.node, [newTask(agent.id), newTask(agent.id)]);
    await lab.store.submit(submission);
    await cancelTasks(sql(), [first(submission.tasks).task], by);
    expect(await readSubmission(sql(), submission.id)).toMatchObject({
      principal: "tester",
      address: "192.0.2.7",
      tasks: [
        { id: submission.tasks[0]?.task, agent: agent.name, state: "cancelled" },
        { id: submission.tasks[1]?.task, state: "queued" },
      ],
    });
    expect(await readSubmission(sql(), newId(ids, submissionIdSchema))).toBeUndefined();
  });
});

describe("the work feed", () => {
  it("names agents with queued rows above a queue number, and where it got to", async () => {
    const start = (await readWorkFeed(sql(), 0)).last;
    const [agent, other] = [await lab.agent(), await lab.agent()];
    await lab.queue(agent, { count: 3 });
    const feed = await readWorkFeed(sql(), start);
    expect(feed.agents).toEqual([agent.id]);
    expect(feed.last).toBe(start + 3);
    await lab.queueOne(other);
    expect(await readWorkFeed(sql(), feed.last)).toEqual({ agents: [other.id], unanswered: [], last: feed.last + 1 });
    expect(await readWorkFeed(sql(), feed.last + 1)).toEqual({ agents: [], unanswered: [], last: feed.last + 1 });
  });

  it("names agents with an offer whose window has just passed", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    const { last } = await readWorkFeed(sql(), 0);
    expect((await readWorkFeed(sql(), last)).agents).not.toContain(agent.id);
    await lab.expireOffer(attempt);
    expect((await readWorkFeed(sql(), last)).agents).toContain(agent.id);
    expect((await readWorkFeed(sql(), last)).unanswered).toContain(agent.id);
  });

  it("knows of the agents asked about which have something to claim", async () => {
    const [queued, waiting, expired, far, cancelled, idle] = await Promise.all(
      Array.from({ length: 6 }, () => lab.agent()),
    );
    if (!queued || !waiting || !expired || !far || !cancelled || !idle) throw new Error("no agents");
    await lab.queueOne(queued);
    await lab.offered(waiting);
    await lab.expireOffer((await lab.offered(expired)).attempt);
    await lab.sql(`update attempt set offer_until = clock_timestamp() + interval '1 hour' where id = $1`, [
      (await lab.offered(far)).attempt,
    ]);
    const ended = await lab.offered(cancelled);
    await cancelTasks(sql(), [ended.task], by);
    await lab.expireOffer(ended.attempt);
    const asked = [queued, waiting, expired, far, cancelled, idle].map(({ id }) => id);
    expect(new Set(await readKnownWork(sql(), asked))).toEqual(new Set([queued.id, expired.id, far.id]));
    expect(await readKnownWork(sql(), [])).toEqual([]);
  });
});

describe("reading for a session", () => {
  it("answers cancels not yet confirmed of the agents asked about, with their grace", async () => {
    const [agent, other] = [await lab.agent(), await lab.agent()];
    const mine = await lab.accepted(agent);
    const theirs = await lab.accepted(other);
    const done = await lab.accepted(agent);
    await lab.queueOne(agent);
    await cancelTasks(sql(), [mine.task, theirs.task, done.task], by);
    await finish(agent, done.attempt);
    expect(await readCancels(sql(), [agent.id])).toEqual([
      { attempt: mine.attempt, agent: agent.id, graceMs: 1_234, abandoned: false },
    ]);
    expect(await readCancels(sql(), [])).toEqual([]);
  });

  it("answers an agent's open attempts and those it listed, no other agent's", async () => {
    const [agent, other] = [await lab.agent(), await lab.agent()];
    const open = await lab.accepted(agent);
    const done = await lab.accepted(agent);
    await finish(agent, done.attempt);
    const forgotten = await lab.accepted(agent);
    await finish(agent, forgotten.attempt);
    const theirs = await lab.accepted(other);
    await lab.queueOne(agent);
    const rows = await lab.store.readOpen(agent.id, [done.attempt, theirs.attempt]);
    expect(new Map(rows.map((row) => [row.attempt, row]))).toEqual(
      new Map([
        [
          open.attempt,
          {
            attempt: open.attempt,
            state: "accepted",
            rank: 2,
            journalId: agent.journalId,
            cancelRequested: false,
            byAgent: false,
            graceMs: 1_234,
          },
        ],
        [
          done.attempt,
          {
            attempt: done.attempt,
            state: "failed",
            rank: 9,
            journalId: agent.journalId,
            cancelRequested: false,
            byAgent: true,
            graceMs: 1_234,
          },
        ],
      ]),
    );
  });

  it("keeps what a principal did", async () => {
    await recordAudit(sql(), { actor: "me", address: "::1", action: "test", target: "it", detail: { why: "because" } });
    expect(await lab.sql(`select actor, address, target, detail from audit where action = 'test'`)).toEqual([
      { actor: "me", address: "::1", target: "it", detail: { why: "because" } },
    ]);
  });
});
