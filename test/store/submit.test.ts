// Submitting: all or nothing, once per key, and the fast path only when the agent is still the one it was meant for.
import { describe, expect, it } from "vitest";
import { bootIdSchema, journalIdSchema, newId } from "../../shared/ids.ts";
import { readEarlier } from "../../server/store/submit-tasks.ts";
import { first, ids, newSubmission, newTask, useLab, type TestAgent } from "./fixture.ts";

const lab = useLab();

const fastPath = (agent: TestAgent) => ({ bootId: agent.bootId, journalId: agent.journalId });

describe("submit", () => {
  it("stores submission, tasks, first attempts, their log rows and one audit row together", async () => {
    const agent = await lab.agent();
    const tasks = [newTask(agent.id), newTask(agent.id, { lane: "system" })];
    const submission = newSubmission(lab.node, tasks);
    expect(await lab.store.submit(submission)).toEqual({ kind: "stored", offered: new Set() });
    const rows = await lab.sql(
      `select a.id, a.rank, a.state, a.lane, a.number, t.spec, l.out_next from attempt a join task t on t.id = a.task_id
       join attempt_log l on l.attempt_id = a.id where t.submission_id = $1 order by a.queue_no`,
      [submission.id],
    );
    expect(rows).toMatchObject([
      { id: tasks[0]?.attempt, rank: 0, state: "queued", lane: "work", number: 1, spec: tasks[0]?.spec, out_next: 0 },
      { id: tasks[1]?.attempt, rank: 0, state: "queued", lane: "system", number: 1 },
    ]);
    const audit = await lab.sql(`select actor, address, action, detail from audit where target = $1`, [submission.id]);
    expect(audit).toEqual([{ actor: "tester", address: "192.0.2.7", action: "submit", detail: { tasks: 2 } }]);
  });

  it("audits updates of agents as such too, once, in the same statement, and nothing else of the batch", async () => {
    const [one, other] = [await lab.agent(), await lab.agent()];
    const update = (sum: string): { lane: "system"; spec: string } => ({
      lane: "system",
      spec: JSON.stringify({ kind: "update", sha256: sum.repeat(64), servers: ["http://node:8080"], greetMs: 1_000 }),
    });
    const updates = newSubmission(lab.node, [newTask(one.id, update("a")), newTask(other.id, update("a"))]);
    const scripts = newSubmission(lab.node, [newTask(one.id)]);
    await Promise.all([updates, scripts, updates].map((submission) => lab.store.submit(submission)));
    await lab.store.submit(updates);
    const auditOf = (id: string) =>
      lab.sql(`select actor, address, action, detail from audit where target = $1 order by id`, [id]);
    const by = { actor: "tester", address: "192.0.2.7" };
    expect(await auditOf(updates.id)).toEqual([
      { ...by, action: "submit", detail: { tasks: 2 } },
      { ...by, action: "agent-update", detail: { agents: [one.id, other.id].toSorted(), sums: ["a".repeat(64)] } },
    ]);
    expect(await auditOf(scripts.id)).toMatchObject([{ action: "submit" }]);
  });

  it("answers a repeat of the same key and body with the first submission's tasks and stores nothing more", async () => {
    const agent = await lab.agent();
    const original = newSubmission(lab.node, [newTask(agent.id), newTask(agent.id)]);
    await lab.store.submit(original);
    const repeat = newSubmission(lab.node, [newTask(agent.id)], original.idempotencyKey);
    const outcome = await lab.store.submit(repeat);
    expect(outcome).toEqual({
      kind: "repeated",
      id: original.id,
      tasks: original.tasks.map(({ task }) => ({ id: task, agent: agent.id })),
    });
    expect(await lab.sql(`select 1 from task where id = $1`, [repeat.tasks[0]?.task])).toEqual([]);
    expect(await lab.sql(`select 1 from audit where target = $1`, [repeat.id])).toEqual([]);
  });

  it("refuses the same key with another body", async () => {
    const agent = await lab.agent();
    const original = newSubmission(lab.node, [newTask(agent.id)]);
    await lab.store.submit(original);
    const other = {
      ...newSubmission(lab.node, [newTask(agent.id)], original.idempotencyKey),
      bodySha256: Buffer.alloc(32, 2),
    };
    expect(await lab.store.submit(other)).toEqual({ kind: "mismatch" });
    expect(await lab.sql(`select 1 from task where id = $1`, [other.tasks[0]?.task])).toEqual([]);
  });

  it("takes the same key of another principal as another submission", async () => {
    const agent = await lab.agent();
    const original = newSubmission(lab.node, [newTask(agent.id)]);
    await lab.store.submit(original);
    const other = {
      ...newSubmission(lab.node, [newTask(agent.id)], original.idempotencyKey),
      principal: "somebody else",
    };
    expect(await lab.store.submit(other)).toMatchObject({ kind: "stored" });
  });

  it("stores one of two submissions with one key in the same batch, and answers the other as its repeat", async () => {
    const agent = await lab.agent();
    const blocker = lab.store.submit(newSubmission(lab.node, [newTask(agent.id)]));
    const key = ids.next();
    const pair = [0, 1].map(() => newSubmission(lab.node, [newTask(agent.id)], key));
    const outcomes = await Promise.all(pair.map((submission) => lab.store.submit(submission)));
    await blocker;
    expect(outcomes.map((outcome) => outcome.kind).toSorted()).toEqual(["repeated", "stored"]);
    const stored = first(await lab.sql(`select count(*)::int as n from submission where idempotency_key = $1`, [key]));
    expect(stored["n"]).toBe(1);
  });

  it("finds a submission by its key when the outcome of its commit is unknown", async () => {
    const agent = await lab.agent();
    const submission = newSubmission(lab.node, [newTask(agent.id)]);
    await lab.store.submit(submission);
    const found = await readEarlier(lab.database.durable, [
      submission,
      { principal: "tester", idempotencyKey: "never-used" },
    ]);
    expect(found.map((row) => row.id)).toEqual([submission.id]);
  });
});

describe("the fast path of submit", () => {
  it("stores the attempt already offered to the agent's own boot and journal", async () => {
    const agent = await lab.agent();
    const task = { ...newTask(agent.id), offer: fastPath(agent) };
    expect(await lab.store.submit(newSubmission(lab.node, [task]))).toEqual({
      kind: "stored",
      offered: new Set([task.attempt]),
    });
    const row = await lab.attempt(task.attempt);
    expect(row).toMatchObject({
      rank: 1,
      state: "offered",
      offer_no: 1,
      journal_id: agent.journalId,
      offered_by: lab.node.id,
    });
    expect(await lab.claim(agent)).toEqual([]);
  });

  it.each<[string, (agent: TestAgent) => Promise<unknown> | undefined, (agent: TestAgent) => object]>([
    ["another boot", () => undefined, (agent) => ({ ...fastPath(agent), bootId: newId(ids, bootIdSchema) })],
    ["another journal", () => undefined, (agent) => ({ ...fastPath(agent), journalId: newId(ids, journalIdSchema) })],
    ["a revoked agent", (agent) => lab.sql(`update agent set status = 'revoked' where id = $1`, [agent.id]), fastPath],
    [
      "a quarantined agent",
      (agent) => lab.sql(`update agent set status = 'quarantined' where id = $1`, [agent.id]),
      fastPath,
    ],
  ])("queues the attempt instead for %s", async (_case, prepare, offer) => {
    const agent = await lab.agent();
    await prepare(agent);
    const task = { ...newTask(agent.id), offer: offer(agent) as ReturnType<typeof fastPath> };
    expect(await lab.store.submit(newSubmission(lab.node, [task]))).toEqual({ kind: "stored", offered: new Set() });
    expect(await lab.attempt(task.attempt)).toMatchObject({
      rank: 0,
      state: "queued",
      offer_no: 0,
      journal_id: null,
      offered_by: null,
    });
  });

  it("queues the attempt while the cluster is paused", async () => {
    const agent = await lab.agent();
    await lab.sql(`update cluster set paused = true`);
    try {
      const task = { ...newTask(agent.id), offer: fastPath(agent) };
      expect(await lab.store.submit(newSubmission(lab.node, [task]))).toEqual({ kind: "stored", offered: new Set() });
    } finally {
      await lab.sql(`update cluster set paused = false`);
    }
  });

  it("offers at once and queues side by side in one submission", async () => {
    const agent = await lab.agent();
    const fast = { ...newTask(agent.id), offer: fastPath(agent) };
    const slow = newTask(agent.id);
    const outcome = await lab.store.submit(newSubmission(lab.node, [fast, slow]));
    expect(outcome).toEqual({ kind: "stored", offered: new Set([fast.attempt]) });
    expect((await lab.claim(agent)).map((claimed) => claimed.attempt)).toEqual([slow.attempt]);
  });
});
