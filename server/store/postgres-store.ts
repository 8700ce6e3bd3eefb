// The courier's verbs on PostgreSQL, with group commit on the hot ones. Batches of one verb never overlap, so their
// row locks are taken in one order; verbs lock in the order agent, task, attempt, attempt log.
import { appendLog, type AppendOutcome, type LogAppend } from "./append-log.ts";
import { claimAttempts } from "./claim-attempts.ts";
import type { Database } from "./connection.ts";
import { finishAttempts, type Finish, type FinishOutcome } from "./finish-attempts.ts";
import { greetAgent } from "./greet-agent.ts";
import { GroupCommit } from "./group-commit.ts";
import { loseAttempts } from "./lose-attempts.ts";
import { writePresence, type PresenceChange } from "./presence.ts";
import { progressAttempts, type Progress, type RowView } from "./progress-attempts.ts";
import { readOpenAttempts } from "./read-open-attempts.ts";
import { refuseAttempts, type Refusal } from "./refuse-attempts.ts";
import { releaseOffers } from "./release-offers.ts";
import { resumeAttempts } from "./resume-attempts.ts";
import type { CourierStore } from "./store.ts";
import { submitTasks, type NewSubmission, type QueueRoom, type SubmitOutcome } from "./submit-tasks.ts";

const capacity = 50_000;

export interface PostgresStore extends CourierStore {
  /** Resolves when no batch is on its way. */
  settle(): Promise<void>;
}

/** How much may wait, and that an attempt waits no longer. */
export interface Queue extends QueueRoom {
  claimed(count: number): void;
}

/** Without `queue` any number of attempts may wait. */
export function createPostgresStore(database: Database, queue?: Queue): PostgresStore {
  const { durable, relaxed } = database;
  const submits = new GroupCommit<NewSubmission, SubmitOutcome>(
    { commit: (items) => submitTasks(durable, items, queue), keyOf: (item) => item.id },
    { largestBatch: 128, capacity },
  );
  const progress = new GroupCommit<Progress, RowView>(
    { commit: (items) => progressAttempts(relaxed, items), keyOf: (item) => item.attempt },
    { largestBatch: 512, capacity },
  );
  const refusals = new GroupCommit<Refusal, true>(
    {
      commit: async (items) => {
        await refuseAttempts(durable, items);
        return items.map(() => true as const);
      },
      keyOf: (item) => item.attempt,
    },
    { largestBatch: 512, capacity },
  );
  const appends = new GroupCommit<LogAppend, AppendOutcome>(
    { commit: (items) => appendLog(relaxed, items), keyOf: (item) => item.attempt },
    { largestBatch: 256, capacity },
  );
  const finishes = new GroupCommit<Finish, FinishOutcome>(
    { commit: (items) => finishAttempts(durable, items), keyOf: (item) => item.attempt },
    { largestBatch: 512, capacity },
  );
  const presences = new GroupCommit<PresenceChange, true>(
    {
      commit: async (items) => {
        await writePresence(relaxed, items);
        return items.map(() => true as const);
      },
      keyOf: (item) => item.agent,
    },
    { largestBatch: 1_024, capacity },
  );
  return {
    submit: (submission) => submits.add(submission),
    async claim(input) {
      const claimed = await claimAttempts(durable, input);
      // A later offer is of an attempt that did not wait.
      queue?.claimed(claimed.filter(({ offerNo }) => offerNo === 1).length);
      return claimed;
    },
    progress: (item) => progress.add(item),
    refuse: async (item) => void (await refusals.add(item)),
    release: (node, offers) => releaseOffers(relaxed, node, offers),
    append: (item) => appends.add(item),
    finish: (item) => finishes.add(item),
    resume: (items) => resumeAttempts(durable, items),
    greet: (greeting) => greetAgent(database, greeting),
    readOpen: (agent, listed) => readOpenAttempts(durable, agent, listed),
    lose: (lost) => loseAttempts(durable, lost),
    presence: async (change) => void (await presences.add(change)),
    async settle() {
      await Promise.all([submits, progress, refusals, appends, finishes, presences].map((group) => group.settle()));
    },
  };
}
