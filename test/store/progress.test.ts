// What agents report of attempts, what persons cancel, what a journal cannot tell: ranks only grow, each verb binds.
import { describe, expect, it } from "vitest";
import { attemptIdSchema, journalIdSchema, newId } from "../../shared/ids.ts";
import { cancelTasks } from "../../server/store/cancel-tasks.ts";
import { first, ids, progressOf, resultRecord, useLab } from "./fixture.ts";

const lab = useLab();
const by = { principal: "tester", address: "198.51.100.1" };
const cancel = (tasks: Parameters<typeof cancelTasks>[1]) => cancelTasks(lab.database.durable, tasks, by);

describe("progress", () => {
  it("accepts an offered attempt, sets its home and answers the row", async () => {
    const agent = await lab.agent();
    const queued = await lab.offered(agent);
    const view = await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id });
    expect(view).toEqual({
      kind: "row",
      state: "accepted",
      cancelRequested: false,
      graceMs: 1_234,
      byAgent: false,
      homeNo: 1,
      out: 0,
      err: 0,
    });
    expect(await lab.attempt(queued.attempt)).toMatchObject({
      rank: 2,
      state: "accepted",
      home_node: lab.node.id,
      home_no: 1,
    });
  });

  it("takes a start as proof of the acceptance that got lost", async () => {
    const agent = await lab.agent();
    const queued = await lab.offered(agent);
    await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id, reached: "running" });
    const row = await lab.attempt(queued.attempt);
    expect(row).toMatchObject({ rank: 3, state: "running", home_no: 1 });
    expect(row["accepted_at"]).toBeInstanceOf(Date);
    expect(row["started_at"]).toBeInstanceOf(Date);
  });

  it("never lowers a rank", async () => {
    const agent = await lab.agent();
    const queued = await lab.offered(agent);
    await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id, reached: "running" });
    expect(await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id })).toMatchObject({
      state: "running",
    });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ rank: 3, state: "running" });
  });

  it("leaves a final attempt as it is and answers its state", async () => {
    const agent = await lab.agent();
    const queued = await lab.accepted(agent);
    await lab.store.finish({
      attempt: queued.attempt,
      agent: agent.id,
      journalId: agent.journalId,
      node: lab.node.id,
      record: resultRecord(),
    });
    const before = await lab.attempt(queued.attempt);
    const view = await lab.store.progress({ ...progressOf(agent, queued, 9), node: lab.node.id, reached: "running" });
    expect(view).toMatchObject({ kind: "row", state: "succeeded", byAgent: true, homeNo: 1 });
    expect(await lab.attempt(queued.attempt)).toEqual(before);
  });

  it("raises the rank without moving the home when another session is the home", async () => {
    const agent = await lab.agent();
    const queued = await lab.accepted(agent);
    await lab.store.progress({ ...progressOf(agent, queued), node: null, reached: "running" });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ rank: 3, home_node: lab.node.id, home_no: 1 });
  });

  it("leaves the home alone when the home number is superseded", async () => {
    const agent = await lab.agent();
    const queued = await lab.accepted(agent);
    const other = await lab.otherNode("node-superseding");
    await lab.store.resume([
      { attempt: queued.attempt, agent: agent.id, journalId: agent.journalId, node: other.id, homeNo: 2 },
    ]);
    await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id, reached: "running" });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ home_node: other.id, home_no: 2 });
  });

  it("answers unknown for an attempt bound to another journal and changes nothing", async () => {
    const agent = await lab.agent();
    const queued = await lab.offered(agent);
    const before = await lab.attempt(queued.attempt);
    const other = { ...agent, journalId: newId(ids, journalIdSchema) };
    expect(await lab.store.progress({ ...progressOf(other, queued), node: lab.node.id })).toEqual({ kind: "unknown" });
    expect(await lab.attempt(queued.attempt)).toEqual(before);
  });

  it("answers unknown for an attempt that never was", async () => {
    const agent = await lab.agent();
    const nothing = { attempt: newId(ids, attemptIdSchema) };
    expect(await lab.store.progress({ ...progressOf(agent, nothing), node: lab.node.id })).toEqual({ kind: "unknown" });
  });

  it("takes an accept through a node whose offer another node has repeated", async () => {
    const agent = await lab.agent();
    const queued = await lab.offered(agent);
    await lab.expireOffer(queued.attempt);
    const other = await lab.otherNode("node-repeats");
    await lab.claim(agent, { node: other.id });
    await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ rank: 2, home_node: lab.node.id, offered_by: other.id });
  });

  it("says that a cancel waits, whoever recorded it", async () => {
    const agent = await lab.agent();
    const queued = await lab.offered(agent);
    await cancel([queued.task]);
    expect(await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id })).toMatchObject({
      cancelRequested: true,
    });
  });

  it("reads the grace of a task whose spec holds a NUL", async () => {
    const agent = await lab.agent();
    const spec = JSON.stringify({ kind: "script", interpreter: "sh", script: "true", cwd: "/\0", graceMs: 77 });
    const queued = await lab.offered(agent, { spec });
    expect(await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id })).toMatchObject({
      graceMs: 77,
    });
    expect(await lab.store.readOpen(agent.id, [])).toMatchObject([{ attempt: queued.attempt, graceMs: 77 }]);
  });
});

describe("refuse", () => {
  const refusal = (
    agent: Awaited<ReturnType<typeof lab.agent>>,
    attempt: Awaited<ReturnType<typeof lab.offered>>["attempt"],
  ) => ({
    attempt,
    agent: agent.id,
    journalId: agent.journalId,
    offerNo: 1,
  });

  it("later: keeps rank 1, frees the offer at once and resets its window's growth", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    await lab.store.refuse({ ...refusal(agent, attempt), class: "later", reason: "busy" });
    expect(await lab.attempt(attempt)).toMatchObject({ rank: 1, state: "offered", reason: "busy", unanswered: 0 });
    expect(await lab.claim(agent)).toMatchObject([{ attempt, offerNo: 2 }]);
    expect(await lab.attempt(attempt)).toMatchObject({ reason: "" });
  });

  it("later: a refusal of an older offer does not touch a newer one", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    await lab.expireOffer(attempt);
    await lab.claim(agent, { node: (await lab.otherNode("node-newer-offer")).id });
    const before = await lab.attempt(attempt);
    await lab.store.refuse({ ...refusal(agent, attempt), class: "later", reason: "busy" });
    expect(await lab.attempt(attempt)).toEqual(before);
  });

  it("never: is final, closes the log and stands whichever offer it answers", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    await lab.expireOffer(attempt);
    await lab.claim(agent);
    await lab.store.refuse({ ...refusal(agent, attempt), class: "never", reason: "policy" });
    const row = await lab.attempt(attempt);
    expect(row).toMatchObject({ rank: 9, state: "refused", reason: "policy", closed: true });
    expect(row["finished_at"]).toBeInstanceOf(Date);
    expect(await lab.claim(agent)).toEqual([]);
  });

  it.each(["later", "never"] as const)("%s: changes nothing once the attempt was accepted", async (kind) => {
    const agent = await lab.agent();
    const { attempt } = await lab.accepted(agent);
    const before = await lab.attempt(attempt);
    await lab.store.refuse({ ...refusal(agent, attempt), class: kind, reason: "policy" });
    expect(await lab.attempt(attempt)).toEqual(before);
  });

  it.each(["later", "never"] as const)("%s: changes nothing from another journal", async (kind) => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    const before = await lab.attempt(attempt);
    await lab.store.refuse({
      ...refusal({ ...agent, journalId: newId(ids, journalIdSchema) }, attempt),
      class: kind,
      reason: "policy",
    });
    expect(await lab.attempt(attempt)).toEqual(before);
  });

  it("stores a reason that holds a NUL, which PostgreSQL cannot", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.offered(agent);
    await lab.store.refuse({ ...refusal(agent, attempt), class: "never", reason: "policy: a\0b" });
    expect(await lab.attempt(attempt)).toMatchObject({ state: "refused", reason: "policy: a\u{FFFD}b" });
  });
});

describe("lose", () => {
  it("unknown: ends accepted and running attempts of that journal only", async () => {
    const agent = await lab.agent();
    const offered = await lab.offered(agent);
    const accepted = await lab.accepted(agent);
    const running = await lab.accepted(agent);
    await lab.store.progress({ ...progressOf(agent, running), node: lab.node.id, reached: "running" });
    const lost = {
      agent: agent.id,
      attempts: [offered.attempt, accepted.attempt, running.attempt],
      answer: "unknown" as const,
    };
    await lab.store.lose({ ...lost, journalId: newId(ids, journalIdSchema) });
    expect(await lab.attempt(accepted.attempt)).toMatchObject({ rank: 2 });
    await lab.store.lose({ ...lost, journalId: agent.journalId });
    expect(await lab.attempt(offered.attempt)).toMatchObject({ rank: 1 });
    for (const { attempt } of [accepted, running]) {
      expect(await lab.attempt(attempt)).toMatchObject({
        rank: 9,
        state: "lost",
        reason: "journal-missing",
        closed: true,
      });
    }
  });

  it("collected: ends an attempt whose result a database failover has lost, offered ones too", async () => {
    const agent = await lab.agent();
    const offered = await lab.offered(agent);
    await lab.store.lose({
      agent: agent.id,
      journalId: agent.journalId,
      attempts: [offered.attempt],
      answer: "collected",
    });
    expect(await lab.attempt(offered.attempt)).toMatchObject({ rank: 9, state: "lost", reason: "result-collected" });
  });

  it("changes nothing of a final attempt", async () => {
    const agent = await lab.agent();
    const { attempt } = await lab.accepted(agent);
    await lab.store.finish({
      attempt,
      agent: agent.id,
      journalId: agent.journalId,
      node: lab.node.id,
      record: resultRecord(),
    });
    const before = await lab.attempt(attempt);
    for (const answer of ["unknown", "collected"] as const) {
      await lab.store.lose({ agent: agent.id, journalId: agent.journalId, attempts: [attempt], answer });
    }
    expect(await lab.attempt(attempt)).toEqual(before);
  });
});

describe("cancel", () => {
  it("ends a queued task at once", async () => {
    const agent = await lab.agent();
    const { task, attempt } = await lab.queueOne(agent);
    expect(await cancel([task])).toEqual([{ task, attempt, agent: agent.id, state: "cancelled", changed: true }]);
    expect(await lab.attempt(attempt)).toMatchObject({
      rank: 9,
      state: "cancelled",
      reason: "before-offer",
      closed: true,
    });
    expect(await lab.claim(agent)).toEqual([]);
    const audit = await lab.sql(`select actor, address, action, detail from audit where target = $1`, [task]);
    expect(audit).toEqual([
      { actor: "tester", address: "198.51.100.1", action: "cancel", detail: { state: "queued" } },
    ]);
  });

  it.each(["offered", "accepted"] as const)("only records the wish once a task is %s", async (state) => {
    const agent = await lab.agent();
    const { task, attempt } = await lab[state](agent);
    expect(await cancel([task])).toMatchObject([{ state, changed: true }]);
    expect(await lab.attempt(attempt)).toMatchObject({
      state,
      cancel_requested: true,
      closed: false,
      finished_at: null,
    });
  });

  it("changes nothing of a final task and says so", async () => {
    const agent = await lab.agent();
    const { task, attempt } = await lab.queueOne(agent);
    await cancel([task]);
    const before = await lab.attempt(attempt);
    expect(await cancel([task])).toMatchObject([{ state: "cancelled", changed: false }]);
    expect(await lab.attempt(attempt)).toEqual(before);
    expect(await lab.sql(`select 1 from audit where target = $1`, [task])).toHaveLength(1);
  });

  it("takes only the latest attempt of a task", async () => {
    const agent = await lab.agent();
    const { task, attempt } = await lab.queueOne(agent);
    await cancel([task]);
    const second = newId(ids, attemptIdSchema);
    await lab.sql(`insert into attempt (id, task_id, agent_id, number, lane) values ($1, $2, $3, 2, 'work')`, [
      second,
      task,
      agent.id,
    ]);
    await lab.sql(`insert into attempt_log (attempt_id, agent_id) values ($1, $2)`, [second, agent.id]);
    const before = await lab.attempt(attempt);
    expect(await cancel([task])).toMatchObject([{ attempt: second, state: "cancelled" }]);
    expect(await lab.attempt(attempt)).toEqual(before);
  });

  it("and a claim of the same queued attempt: whoever has the row first decides, and both see it", async () => {
    const agent = await lab.agent();
    for (let round = 0; round < 20; round += 1) {
      const { task, attempt } = await lab.queueOne(agent);
      const [claimed, cancelled] = await Promise.all([lab.claim(agent), cancel([task])]);
      const row = await lab.attempt(attempt);
      const isOffered = claimed.length === 1;
      expect(row).toMatchObject(isOffered ? { rank: 1, cancel_requested: true } : { rank: 9, state: "cancelled" });
      expect(first(cancelled)).toMatchObject({ state: isOffered ? "offered" : "cancelled", changed: true });
      await lab.store.lose({ agent: agent.id, journalId: agent.journalId, attempts: [attempt], answer: "collected" });
    }
  });
});
