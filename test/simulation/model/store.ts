// The courier's and the cluster's verbs on the model, each as the transactions its SQL makes. `carry` decides what becomes of
// a transaction on its way: the plain store lets every one through, the simulator's delays, breaks and loses them.
import { createGroupedStore, type GroupedStore } from "../../../server/store/grouped-store.ts";
import type { ClusterStore, CourierStore } from "../../../server/store/store.ts";
import { claimAttempts, refuseAttempts, releaseOffers } from "./claim.ts";
import { countPending, readAgentSlots } from "./administer.ts";
import {
  beatNode,
  joinNode,
  readCancels,
  readKnownWork,
  readNodeList,
  readWorkFeed,
  sweepExpired,
  sweepOtherJournal,
  sweepUnreachable,
} from "./cluster.ts";
import type { Commit, ModelDatabase } from "./database.ts";
import { appendLog, finishAttempts, noteProgress, progressAttempts, resumeAttempts } from "./flow.ts";
import { greetAgent, loseAttempts, readDistrusted, readOpenAttempts, settlePresence, writePresence } from "./greet.ts";
import { sweepRemoved } from "./remove-agent.ts";
import { submitTasks } from "./submit.ts";

/** One transaction, or one read, on its way to the database and back. */
export interface Carry {
  <Answer>(
    name: string,
    commit: Commit | "read",
    act: (db: ModelDatabase) => Answer,
    /** What the statement was given, for those who watch. */
    items?: unknown,
  ): Promise<Answer>;
}

export function createGroupedModelStore(carry: Carry): GroupedStore {
  return createGroupedStore({
    submitTasks: (items) => carry("submit", "durable", (db) => submitTasks(db, items), items),
    claim: (input) => carry("claim", "durable", (db) => claimAttempts(db, input), input),
    progressAttempts: (items) => carry("progress", "relaxed", (db) => progressAttempts(db, items), items),
    noteProgress: (items) => carry("note-progress", "relaxed", (db) => noteProgress(db, items), items),
    refuseAttempts: (items) => carry("refuse", "durable", (db) => refuseAttempts(db, items), items),
    release: async (node, offers) => {
      if (offers.length > 0) await carry("release", "relaxed", (db) => releaseOffers(db, node, offers), offers);
    },
    appendLog: (items) => carry("append", "relaxed", (db) => appendLog(db, items), items),
    finishAttempts: (items) => carry("finish", "durable", (db) => finishAttempts(db, items), items),
    resumeAttempts: (items) => carry("resume", "durable", (db) => resumeAttempts(db, items), items),
    greet: (greeting) =>
      carry("greet", greeting.intent === "probe" ? "read" : "durable", (db) => greetAgent(db, greeting), greeting),
    readOpen: (agent, listed) => carry("read-open", "read", (db) => readOpenAttempts(db, agent, listed), agent),
    loseAttempts: (items) => carry("lose", "durable", (db) => loseAttempts(db, items), items),
    writePresence: (items) => carry("presence", "relaxed", (db) => writePresence(db, items)),
  });
}

export function createModelClusterStore(carry: Carry): ClusterStore {
  return {
    workFeed: (after) => carry("feed", "read", (db) => readWorkFeed(db, after)),
    knownWork: (agents) =>
      agents.length === 0 ? Promise.resolve([]) : carry("known", "read", (db) => readKnownWork(db, agents)),
    cancels: (agents) =>
      agents.length === 0 ? Promise.resolve([]) : carry("cancels", "read", (db) => readCancels(db, agents)),
    distrusted: (sessions) => carry("distrusted", "read", (db) => readDistrusted(db, sessions)),
    settings: (told) => carry("settings", "read", (db) => readAgentSlots(db, told)),
    clockMs: () => carry("clock", "read", (db) => db.nowMs),
    async sweep() {
      const expired = await carry("sweep-expire", "durable", (db) => sweepExpired(db));
      const lost = await carry("sweep-unreachable", "durable", (db) => sweepUnreachable(db));
      const stranded = await carry("sweep-other-journal", "durable", (db) => sweepOtherJournal(db));
      const orphaned = await carry("sweep-removed", "durable", (db) => sweepRemoved(db));
      return [...expired, ...lost, ...stranded, ...orphaned];
    },
    settlePresence: (presence) => carry("settle", "relaxed", (db) => settlePresence(db, presence)),
    join: (node) => carry("join", "durable", (db) => joinNode(db, node)),
    beat: (beat) => carry("beat", "durable", (db) => beatNode(db, beat)),
    pending: (agents) => carry("pending", "read", (db) => countPending(db, agents)),
    nodeList: () => carry("nodes", "read", readNodeList),
  };
}

/** Every transaction at once and without fault: what the property test holds against SQL. */
export function createModelStore(db: ModelDatabase): CourierStore & ClusterStore {
  const carry: Carry = (name, commit, act) =>
    Promise.resolve(commit === "read" ? act(db) : db.transaction(commit, name, () => act(db)));
  return { ...createGroupedModelStore(carry), ...createModelClusterStore(carry) };
}
