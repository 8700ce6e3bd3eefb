// Admission by boot pair and journal: every row of the rule, clones, probes, and what a new journal means for attempts.
import { describe, expect, it } from "vitest";
import { judgeBoot } from "../../server/store/greet-agent.ts";
import { sweepAttempts } from "../../server/store/sweep-attempts.ts";
import { bootIdSchema, journalIdSchema, newId } from "../../shared/ids.ts";
import { first, greetingOf, ids, newBoot, resultRecord, useLab, type TestAgent } from "./fixture.ts";

const lab = useLab();
const row = async (agent: TestAgent) => first(await lab.sql(`select * from agent where id = $1`, [agent.id]));
const boot = (agent: TestAgent, bootCounter: number): TestAgent => ({
  ...agent,
  bootCounter,
  bootId: newId(ids, bootIdSchema),
});
const newJournal = (agent: TestAgent): TestAgent => ({ ...agent, ...newBoot() });
/** Lets the last refusal of this agent be 11 s old. */
const passCloneTime = (agent: TestAgent) =>
  lab.sql(`update agent set refused_at = refused_at - interval '11 seconds' where id = $1`, [agent.id]);
const transactionOf = async (agent: TestAgent) =>
  (await lab.sql(`select xmin::text from agent where id = $1`, [agent.id]))[0]?.["xmin"];

describe("greet", () => {
  it("admits the first boot of an agent and stores its pair, journal and facts", async () => {
    const agent = await lab.agent({ greeted: "no" });
    expect(await lab.greet(agent)).toEqual({ kind: "admitted" });
    expect(await row(agent)).toMatchObject({
      boot_counter: 1,
      boot_id: agent.bootId,
      journal_id: agent.journalId,
      version: "1.0.0",
      capabilities: ["no-op"],
      host: { hostname: "h" },
    });
  });

  it("admits an equal pair without a write", async () => {
    const agent = await lab.agent();
    const before = await transactionOf(agent);
    expect(await lab.greet(agent)).toEqual({ kind: "admitted" });
    expect(await transactionOf(agent)).toBe(before);
  });

  it("admits a greater counter of the same journal and replaces the pair", async () => {
    const agent = await lab.agent();
    const next = boot(agent, 2);
    expect(await lab.greet(next)).toEqual({ kind: "admitted" });
    expect(await row(agent)).toMatchObject({ boot_counter: 2, boot_id: next.bootId, retired_journals: [] });
  });

  it.each([
    ["a smaller counter", 4],
    ["an equal counter with another boot id", 5],
  ])("refuses %s as superseded", async (_case, counter) => {
    const agent = await lab.agent();
    const current = boot(agent, 5);
    await lab.greet(current);
    expect(await lab.greet(boot(agent, counter))).toEqual({ kind: "superseded", expected: "boot counter 5 or later" });
    expect(await row(agent)).toMatchObject({ boot_counter: 5, boot_id: current.bootId, status: "active" });
  });

  it("refuses a journal that was rolled back, however often it has started since", async () => {
    const agent = await lab.agent();
    const current = boot(agent, 5);
    await lab.greet(current);
    const grown = boot(agent, 9);
    const greeting = { ...greetingOf(grown), lineage: [newBoot().bootId, grown.bootId] };
    expect(await lab.store.greet(greeting)).toEqual({
      kind: "superseded",
      expected: `a journal that knows boot ${current.bootId}`,
    });
    expect(await lab.store.greet({ ...greeting, lineage: [current.bootId, grown.bootId] })).toEqual({
      kind: "admitted",
    });
  });

  it("admits the old process's pair again as long as nothing newer greeted, in any order of nodes", async () => {
    const agent = await lab.agent();
    const next = boot(agent, 2);
    expect(await Promise.all([lab.greet(next), lab.greet(next), lab.greet(next)])).toEqual(
      Array(3).fill({ kind: "admitted" }),
    );
    expect(await lab.greet(agent)).toMatchObject({ kind: "superseded" });
  });

  it("admits another journal, retires the old one and loses what was bound to it, but nothing else", async () => {
    const agent = await lab.agent();
    const queued = await lab.queueOne(agent);
    const accepted = await lab.accepted(agent);
    const done = await lab.accepted(agent);
    await lab.store.finish({
      attempt: done.attempt,
      agent: agent.id,
      journalId: agent.journalId,
      node: lab.node.id,
      record: resultRecord(),
    });
    await lab.sql(`update attempt set rank = 0, state = 'queued', journal_id = null where id = $1`, [queued.attempt]);
    const other = await lab.agent();
    const theirs = await lab.accepted(other);
    expect(await lab.greet(newJournal(agent))).toEqual({ kind: "admitted" });
    expect(await lab.attempt(accepted.attempt)).toMatchObject({
      rank: 9,
      state: "lost",
      reason: "journal-missing",
      closed: true,
    });
    expect(await lab.attempt(queued.attempt)).toMatchObject({ rank: 0, state: "queued" });
    expect(await lab.attempt(done.attempt)).toMatchObject({ state: "succeeded" });
    expect(await lab.attempt(theirs.attempt)).toMatchObject({ rank: 2 });
    expect(await row(agent)).toMatchObject({ retired_journals: [agent.journalId] });
  });

  it("refuses a retired journal whatever its counter says", async () => {
    const agent = await lab.agent();
    await lab.greet(newJournal(agent));
    expect(await lab.greet(boot(agent, 1_000))).toEqual({
      kind: "superseded",
      expected: "the journal was replaced by a newer one",
    });
  });

  it("remembers the last hundred retired journals", async () => {
    const agent = await lab.agent();
    let last = agent;
    for (let count = 0; count < 105; count += 1) await lab.greet((last = newJournal(agent)));
    const { retired_journals: retired } = await row(agent);
    expect(retired).toHaveLength(100);
    expect(retired).not.toContain(last.journalId);
  });

  it.each(["quarantined", "revoked", "removed"] as const)(
    "refuses an agent that is %s and says why",
    async (status) => {
      const agent = await lab.agent();
      await lab.sql(`update agent set status = $2, status_reason = 'because' where id = $1`, [agent.id, status]);
      expect(await lab.greet(agent)).toEqual({ kind: status, reason: "because" });
      expect(await lab.greet(agent, "probe")).toEqual({ kind: status, reason: "because" });
    },
  );

  it("refuses an agent that never was", async () => {
    const agent = { ...(await lab.agent()), id: (await lab.agent({ greeted: "no" })).id };
    await lab.sql(`delete from agent where id = $1`, [agent.id]);
    expect(await lab.greet(agent)).toMatchObject({ kind: "removed" });
  });
});

describe("a clone", () => {
  it("is quarantined, both halves, when the same boot is refused again after 10 s", async () => {
    const agent = await lab.agent();
    const clone = boot(agent, 1);
    expect(await lab.greet(clone)).toMatchObject({ kind: "superseded" });
    await passCloneTime(agent);
    expect(await lab.greet(clone)).toMatchObject({ kind: "quarantined" });
    expect(await lab.greet(agent)).toMatchObject({ kind: "quarantined" });
    const audit = await lab.sql(`select action, actor from audit where target = $1`, [agent.id]);
    expect(audit).toEqual([{ action: "agent-quarantined", actor: "system" }]);
    await lab.queueOne(agent);
    expect(await lab.claim(agent)).toEqual([]);
  });

  it("is not assumed within 10 s, however often the boot is refused", async () => {
    const agent = await lab.agent();
    const old = boot(agent, 0);
    for (let count = 0; count < 3; count += 1) expect(await lab.greet(old)).toMatchObject({ kind: "superseded" });
    expect(await row(agent)).toMatchObject({ status: "active" });
  });

  it("is not assumed when the boot refused later is another one", async () => {
    const agent = await lab.agent();
    await lab.greet(boot(agent, 0));
    await passCloneTime(agent);
    expect(await lab.greet(boot(agent, 0))).toMatchObject({ kind: "superseded" });
    expect(await row(agent)).toMatchObject({ status: "active" });
  });

  it("is not assumed when a newer boot greeted in between", async () => {
    const agent = await lab.agent();
    const old = boot(agent, 1);
    await lab.greet(old);
    await passCloneTime(agent);
    await lab.greet(boot(agent, 2));
    expect(await lab.greet(old)).toMatchObject({ kind: "superseded" });
  });
});

describe("a probe", () => {
  it("is judged like any hello and changes nothing", async () => {
    const agent = await lab.agent();
    const before = await row(agent);
    expect(await lab.greet(agent, "probe")).toEqual({ kind: "admitted" });
    expect(await lab.greet(boot(agent, 2), "probe")).toEqual({ kind: "admitted" });
    expect(await lab.greet(newJournal(agent), "probe")).toEqual({ kind: "admitted" });
    const old = boot(agent, 0);
    expect(await lab.greet(old, "probe")).toMatchObject({ kind: "superseded" });
    expect(await row(agent)).toEqual(before);
  });

  it("never quarantines a running agent", async () => {
    const agent = await lab.agent();
    const old = boot(agent, 0);
    await lab.greet(old);
    await passCloneTime(agent);
    expect(await lab.greet(old, "probe")).toMatchObject({ kind: "superseded" });
    expect(await row(agent)).toMatchObject({ status: "active" });
  });
});

describe("greetings and claims at the same time", () => {
  it("leave no open attempt bound to a journal that was replaced", async () => {
    for (let round = 0; round < 10; round += 1) {
      const agent = await lab.agent();
      await lab.queue(agent, { count: 20 });
      await Promise.all([
        lab.claim(agent, { credit: 10 }),
        lab.greet(newJournal(agent)),
        lab.claim(agent, { credit: 10 }),
      ]);
      await sweepAttempts(lab.database.durable);
      const stranded = await lab.sql(
        `select state from attempt where agent_id = $1 and rank in (1, 2, 3) and journal_id = $2`,
        [agent.id, agent.journalId],
      );
      expect(stranded).toEqual([]);
    }
  });
});

describe("an attempt that a claim bound to a journal just as another one greeted", () => {
  it("is lost at the next sweep instead of being offered to nobody for ever", async () => {
    const agent = await lab.agent();
    const { attempt, task } = await lab.offered(agent);
    await lab.sql(`update agent set journal_id = $2 where id = $1`, [agent.id, newId(ids, journalIdSchema)]);
    expect(await sweepAttempts(lab.database.durable)).toEqual([task]);
    expect(await lab.attempt(attempt)).toMatchObject({
      rank: 9,
      state: "lost",
      reason: "journal-missing",
      closed: true,
    });
  });
});

describe("the rule of boots", () => {
  const journal = newId(ids, journalIdSchema);
  const bootId = newId(ids, bootIdSchema);
  const stored = { boot_counter: 5, boot_id: bootId, journal_id: journal, retired: false };
  it.each([
    ["nothing stored", { ...stored, boot_counter: null, boot_id: null, journal_id: null }, 1, "newer"],
    ["an equal pair", stored, 5, "same"],
    ["a greater counter", stored, 6, "newer"],
    ["a smaller counter", stored, 4, "superseded"],
    ["a retired journal", { ...stored, retired: true }, 9, "superseded"],
    ["another journal", { ...stored, journal_id: newId(ids, journalIdSchema) }, 1, "new-journal"],
    ["an equal counter of another boot", { ...stored, boot_id: newId(ids, bootIdSchema) }, 5, "superseded"],
  ] as const)("%s", (_case, against, bootCounter, expected) => {
    expect(judgeBoot(against, { bootCounter, bootId, journalId: journal })).toBe(expected);
  });
});
