// I11: whatever an agent says about another agent's attempt changes nothing and tells it nothing. Every verb of the
// courier is called by a stranger on attempts of every rank, with everything else right.
import { describe, expect, it } from "vitest";
import { cancelTasks } from "../../server/store/cancel-tasks.ts";
import type { GroupedStore } from "../../server/store/grouped-store.ts";
import { emptyDigest, resultRecord, useLab, type QueuedTask, type TestAgent } from "./fixture.ts";

const lab = useLab();

/** All that is stored of an agent's attempts. */
async function everything(agent: TestAgent): Promise<string> {
  const rows = await lab.sql(
    `select a.*, l.home_no, l.closed, l.out_next, l.err_next,
       (select jsonb_agg(c order by c.stream, c.start_offset) from log_chunk c where c.attempt_id = a.id) as chunks,
       (select jsonb_agg(r) from late_result r where r.attempt_id = a.id) as late,
       (select to_jsonb(g) from agent g where g.id = a.agent_id) as agent
     from attempt a join attempt_log l on l.attempt_id = a.id where a.agent_id = $1 order by a.id`,
    [agent.id],
  );
  return JSON.stringify(rows);
}

const states: Record<string, (agent: TestAgent) => Promise<QueuedTask>> = {
  queued: (agent) => lab.queueOne(agent),
  offered: (agent) => lab.offered(agent),
  "offered and unanswered": async (agent) => {
    const offered = await lab.offered(agent);
    await lab.expireOffer(offered.attempt);
    return offered;
  },
  accepted: (agent) => lab.accepted(agent),
  "accepted and to be cancelled": async (agent) => {
    const accepted = await lab.accepted(agent);
    await cancelTasks(lab.database.durable, [accepted.task], { principal: "tester", address: "" });
    return accepted;
  },
  finished: async (agent) => {
    const accepted = await lab.accepted(agent);
    await lab.store.finish({
      attempt: accepted.attempt,
      agent: agent.id,
      journalId: agent.journalId,
      node: lab.node.id,
      record: resultRecord(),
    });
    return accepted;
  },
};

interface Stranger {
  readonly store: GroupedStore;
  readonly victim: QueuedTask;
  /** The stranger's identity with the victim's journal: the worst it could know. */
  readonly as: TestAgent;
}

const verbs: Record<string, (stranger: Stranger) => Promise<unknown>> = {
  "claims for it": async ({ store, as }) =>
    await store.claim({
      node: lab.node.id,
      credits: [{ agent: as.id, bootId: as.bootId, journalId: as.journalId, lane: "work", credit: 10 }],
      most: 10,
    }),
  "accepts it": ({ store, victim, as }) =>
    store.progress({
      attempt: victim.attempt,
      agent: as.id,
      journalId: as.journalId,
      node: lab.node.id,
      homeNo: 99,
      reached: "accepted",
    }),
  "starts it": ({ store, victim, as }) =>
    store.progress({
      attempt: victim.attempt,
      agent: as.id,
      journalId: as.journalId,
      node: null,
      homeNo: 99,
      reached: "running",
    }),
  "refuses it for now": ({ store, victim, as }) =>
    store.refuse({
      attempt: victim.attempt,
      agent: as.id,
      journalId: as.journalId,
      offerNo: 1,
      class: "later",
      reason: "busy",
    }),
  "refuses it for ever": ({ store, victim, as }) =>
    store.refuse({
      attempt: victim.attempt,
      agent: as.id,
      journalId: as.journalId,
      offerNo: 1,
      class: "never",
      reason: "policy",
    }),
  "appends to its log": ({ store, victim, as }) =>
    store.append({
      attempt: victim.attempt,
      agent: as.id,
      homeNo: 99,
      runs: { out: { from: 0, pieces: [{ bytes: Buffer.from("x") }] }, err: { from: 0, pieces: [{ omitted: 1 }] } },
    }),
  "finishes it": ({ store, victim, as }) =>
    store.finish({
      attempt: victim.attempt,
      agent: as.id,
      journalId: as.journalId,
      node: lab.node.id,
      record: resultRecord({ out: { length: 0, sha256: emptyDigest } }),
    }),
  "moves its home": ({ store, victim, as }) =>
    store.resume([{ attempt: victim.attempt, agent: as.id, journalId: as.journalId, node: lab.node.id, homeNo: 99 }]),
  "does not know it": ({ store, victim, as }) =>
    store.lose({ agent: as.id, journalId: as.journalId, attempts: [victim.attempt], answer: "unknown" }),
  "has forgotten it": ({ store, victim, as }) =>
    store.lose({ agent: as.id, journalId: as.journalId, attempts: [victim.attempt], answer: "collected" }),
  "lists it in its hello": ({ store, victim, as }) => store.readOpen(as.id, [victim.attempt]),
  "greets with its journal": ({ store, as }) =>
    store.greet({
      agent: as.id,
      bootCounter: 1,
      bootId: as.bootId,
      journalId: as.journalId,
      version: "1",
      capabilities: [],
      host: {},
      intent: "session",
    }),
};

const nothingSaid = [undefined, { kind: "unknown" }, [{ kind: "unknown" }], []];

describe.each(Object.keys(states))("another agent's attempt that is %s", (state) => {
  it.each(Object.keys(verbs))("stays as it is when a stranger %s", async (verb) => {
    const victimAgent = await lab.agent();
    const stranger = await lab.agent();
    const victim = await states[state]?.(victimAgent);
    if (victim === undefined) throw new Error(`no state ${state}`);
    const before = await everything(victimAgent);
    const as = { ...stranger, journalId: victimAgent.journalId };
    const answer = await verbs[verb]?.({ store: lab.store, victim, as });
    expect(await everything(victimAgent)).toBe(before);
    expect(verb === "greets with its journal" ? [{ kind: "admitted" }] : nothingSaid).toContainEqual(answer);
  });
});
