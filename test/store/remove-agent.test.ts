// Removing an agent: what it held ends, its trust ends, its name is free, and nothing it says later counts.
import { describe, expect, it } from "vitest";
import { agentIdSchema, newId } from "../../shared/ids.ts";
import { insertAgent, replaceAgent, storeAgentCertificate } from "../../server/store/agent-certificates.ts";
import { findAgent, listAgents, namedTargets, readAdmission } from "../../server/store/agents.ts";
import { readDistrusted } from "../../server/store/read-distrusted.ts";
import { removeAgent } from "../../server/store/remove-agent.ts";
import { sweepAttempts } from "../../server/store/sweep-attempts.ts";
import { ids, newSubmission, newTask, progressOf, resultRecord, useLab, type TestAgent } from "./fixture.ts";

const lab = useLab();
const sql = () => lab.database.durable;
const by = { principal: "tester", address: "192.0.2.9" };
const remove = (nameOrId: string) => removeAgent(sql(), { nameOrId, ...by });

describe("removing an agent", () => {
  it("cancels what is queued and loses what it may have started, in one audited act", async () => {
    const [agent, other] = [await lab.agent(), await lab.agent()];
    const running = await lab.accepted(agent);
    const offered = await lab.offered(agent);
    const queued = await lab.queueOne(agent);
    const theirs = await lab.queueOne(other);
    const removed = await remove(agent.name);
    expect(removed?.id).toBe(agent.id);
    expect(removed?.tasks.toSorted()).toEqual([running.task, offered.task, queued.task].toSorted());
    const ended = { rank: 9, reason: "agent-removed", closed: true, finished_at: expect.any(Date) };
    expect(await lab.attempt(running.attempt)).toMatchObject({ ...ended, state: "lost" });
    expect(await lab.attempt(offered.attempt)).toMatchObject({ ...ended, state: "lost" });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ ...ended, state: "cancelled" });
    expect(await lab.attempt(theirs.attempt)).toMatchObject({ rank: 0 });
    expect(
      await lab.sql(`select actor, address, detail from audit where target = $1 and action = 'agent-remove'`, [
        agent.id,
      ]),
    ).toEqual([{ actor: "tester", address: "192.0.2.9", detail: { name: agent.name, cancelled: 1, lost: 2 } }]);
  });

  it("is done once: again, by name or id, there is none to remove", async () => {
    const agent = await lab.agent();
    expect(await remove(agent.id)).toEqual({ id: agent.id, tasks: [] });
    expect([await remove(agent.id), await remove(agent.name), await remove("nobody")]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(await lab.sql(`select 1 from audit where target = $1 and action = 'agent-remove'`, [agent.id])).toHaveLength(
      1,
    );
  });

  it("takes an id for an id, whoever is called like it", async () => {
    const agent = await lab.agent();
    const impostor = newId(ids, agentIdSchema);
    await insertAgent(sql(), { id: impostor, name: agent.id, labels: {} });
    expect((await remove(agent.id))?.id).toBe(agent.id);
    expect(await findAgent(sql(), impostor)).toMatchObject({ status: "active" });
  });

  it.each(["revoked", "quarantined"])("is possible when it is %s already", async (status) => {
    const agent = await lab.agent();
    await lab.sql(`update agent set status = $2 where id = $1`, [agent.id, status]);
    expect((await remove(agent.name))?.id).toBe(agent.id);
  });

  it("ends its trust: no certificate, no session, no greeting, no place among targets and in the list", async () => {
    const agent = await lab.agent();
    const thumbprint = ids.next();
    await storeAgentCertificate(sql(), {
      thumbprint,
      agent: agent.id,
      spkiSha256: "spki",
      certificate: "pem",
      notAfterMs: 2_000_000_000_000,
    });
    await remove(agent.name);
    expect(await readAdmission(sql(), thumbprint)).toMatchObject({ status: "removed", certificate: "revoked" });
    expect(await readDistrusted(sql(), [{ agent: agent.id, thumbprint, bootId: agent.bootId }])).toEqual([
      { agent: agent.id, status: "removed", reason: "removed by tester", bootId: agent.bootId },
    ]);
    expect(await lab.greet(agent)).toEqual({ kind: "removed", reason: "removed by tester" });
    expect(await namedTargets(sql(), [agent.name, agent.id])).toEqual([]);
    expect(await listAgents(sql(), { limit: 10, before: null, ids: [agent.id] })).toEqual([]);
  });

  it("frees its name for a new agent with an id of its own, also with a token that might replace it", async () => {
    const agent = await lab.agent();
    const again = () => insertAgent(sql(), { id: newId(ids, agentIdSchema), name: agent.name, labels: {} });
    expect(await again()).toBeUndefined();
    await remove(agent.name);
    expect(await replaceAgent(sql(), { name: agent.name, labels: {} })).toBeUndefined();
    const made = await again();
    expect(made).not.toBe(agent.id);
    expect((await findAgent(sql(), agent.name))?.id).toBe(made);
    expect((await findAgent(sql(), agent.id))?.status).toBe("removed");
    expect((await remove(agent.name))?.id).toBe(made);
  });
});

describe("what a removed agent still says", () => {
  it("changes no verdict: its result is kept aside", async () => {
    const agent = await lab.agent();
    const [running, queued] = [await lab.accepted(agent), await lab.queueOne(agent)];
    await remove(agent.name);
    const said = { agent: agent.id, journalId: agent.journalId, node: lab.node.id };
    expect(await lab.store.finish({ ...said, attempt: running.attempt, record: resultRecord() })).toEqual({
      kind: "late",
    });
    await lab.store.progress({ ...progressOf(agent, queued), node: lab.node.id, reached: "running" });
    expect(await lab.attempt(running.attempt)).toMatchObject({ state: "lost", reason: "agent-removed", result: null });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ state: "cancelled", reason: "agent-removed" });
    expect(await lab.sql(`select 1 from late_result where attempt_id = $1`, [running.attempt])).toHaveLength(1);
  });

  it("and was finished before its removal stands", async () => {
    const agent = await lab.agent();
    const done = await lab.accepted(agent);
    const said = { agent: agent.id, journalId: agent.journalId, node: lab.node.id };
    await lab.store.finish({ ...said, attempt: done.attempt, record: resultRecord() });
    expect((await remove(agent.name))?.tasks).toEqual([]);
    expect(await lab.attempt(done.attempt)).toMatchObject({ state: "succeeded" });
  });
});

describe("what is stored for an agent while it is removed", () => {
  const submit = async (agent: TestAgent) => {
    const fast = { ...newTask(agent.id), offer: { bootId: agent.bootId, journalId: agent.journalId } };
    const slow = newTask(agent.id);
    await lab.store.submit(newSubmission(lab.node, [fast, slow]));
    return { fast, slow };
  };

  it("is ended by the sweep, until long after no node can store anything for it", async () => {
    const agent = await lab.agent();
    await remove(agent.name);
    const { fast, slow } = await submit(agent);
    // As if it had been offered before the removal was seen.
    await lab.sql(`update attempt set rank = 1, state = 'offered', journal_id = $2 where id = $1`, [
      fast.attempt,
      agent.journalId,
    ]);
    expect((await sweepAttempts(sql())).toSorted()).toEqual([fast.task, slow.task].toSorted());
    expect(await lab.attempt(fast.attempt)).toMatchObject({ state: "lost", reason: "agent-removed", closed: true });
    expect(await lab.attempt(slow.attempt)).toMatchObject({ state: "cancelled", reason: "agent-removed" });
    expect(await sweepAttempts(sql())).toEqual([]);
    const much = await submit(agent);
    await lab.sql(`update agent set removed_at = removed_at - interval '61 minutes' where id = $1`, [agent.id]);
    expect(await sweepAttempts(sql())).toEqual([]);
    expect(await lab.attempt(much.slow.attempt)).toMatchObject({ rank: 0 });
  });

  it("and a claim at the same time: an attempt is offered and then lost, or never offered", async () => {
    for (let round = 0; round < 20; round += 1) {
      const agent = await lab.agent();
      const queued = await lab.queue(agent, { count: 4 });
      const [claimed] = await Promise.all([lab.claim(agent), remove(agent.name)]);
      await sweepAttempts(sql());
      const offered = new Set(claimed.map(({ attempt }) => attempt));
      for (const { attempt } of queued) {
        expect(await lab.attempt(attempt)).toMatchObject({
          rank: 9,
          state: offered.has(attempt) ? "lost" : "cancelled",
          reason: "agent-removed",
        });
      }
      expect(await lab.claim(agent)).toEqual([]);
    }
  });

  it("is looked for among the agents removed lately, by an index, and in their queues, never in the whole backlog", async () => {
    const plans = new Map<string, string>();
    await sweepAttempts({
      query: async (statement, values) => {
        const rows = await lab.sql(`explain (costs off) ${statement.text}`, values);
        plans.set(statement.name, rows.map((row) => String(row["QUERY PLAN"])).join("\n"));
        return [];
      },
    });
    const plan = plans.get("sweep-removed") ?? "";
    expect(plan).toContain("using agent_removed on agent");
    expect(plan).toMatch(/Index Cond: \(agent_id = g\.id\)/);
    expect(plan).not.toContain("Seq Scan on a");
  });
});
