// Group commit around the courier's verbs: the hot ones gather into batches, the others pass. Knows no SQL; whoever carries
// the batches out is given. Invariant: batches of one verb never overlap, so their row locks are taken in one order.
import type { AppendOutcome, LogAppend } from "./append-log.ts";
import type { Finish, FinishOutcome } from "./finish-attempts.ts";
import { GroupCommit } from "./group-commit.ts";
import type { ProgressNote } from "./note-progress.ts";
import type { PresenceChange } from "./presence.ts";
import type { Progress, RowView } from "./progress-attempts.ts";
import type { Refusal } from "./refuse-attempts.ts";
import type { LostAttempt } from "./lose-attempts.ts";
import type { ResumeHome, ResumeOutcome } from "./resume-attempts.ts";
import type { CourierStore } from "./store.ts";
import type { NewSubmission, SubmitOutcome } from "./submit-tasks.ts";

const capacity = 50_000;

/** The verbs of {@link CourierStore}; the grouped ones take one transaction's worth of items. */
export interface StoreVerbs extends Pick<CourierStore, "claim" | "release" | "greet" | "readOpen"> {
  submitTasks(items: readonly NewSubmission[]): Promise<readonly SubmitOutcome[]>;
  progressAttempts(items: readonly Progress[]): Promise<readonly RowView[]>;
  noteProgress(items: readonly ProgressNote[]): Promise<void>;
  refuseAttempts(items: readonly Refusal[]): Promise<void>;
  appendLog(items: readonly LogAppend[]): Promise<readonly AppendOutcome[]>;
  finishAttempts(items: readonly Finish[]): Promise<readonly FinishOutcome[]>;
  resumeAttempts(items: readonly ResumeHome[]): Promise<readonly ResumeOutcome[]>;
  loseAttempts(items: readonly LostAttempt[]): Promise<void>;
  writePresence(items: readonly PresenceChange[]): Promise<void>;
}

export interface GroupedStore extends CourierStore {
  /** Resolves when no batch is on its way. */
  settle(): Promise<void>;
}

export function createGroupedStore(verbs: StoreVerbs): GroupedStore {
  const submits = new GroupCommit<NewSubmission, SubmitOutcome>(
    { commit: (items) => verbs.submitTasks(items), keyOf: (item) => item.id, bytesOf: specBytes },
    { largestBatch: 128, largestBytes: 16 * 1024 * 1024, capacity },
  );
  const progress = new GroupCommit<Progress, RowView>(
    { commit: (items) => verbs.progressAttempts(items), keyOf: (item) => item.attempt },
    { largestBatch: 512, capacity },
  );
  const notes = new GroupCommit<ProgressNote, true>(
    { commit: (items) => done(items, verbs.noteProgress(items)), keyOf: (item) => item.attempt },
    { largestBatch: 512, capacity },
  );
  const refusals = new GroupCommit<Refusal, true>(
    { commit: (items) => done(items, verbs.refuseAttempts(items)), keyOf: (item) => item.attempt },
    { largestBatch: 512, capacity },
  );
  const appends = new GroupCommit<LogAppend, AppendOutcome>(
    { commit: (items) => verbs.appendLog(items), keyOf: (item) => item.attempt },
    { largestBatch: 256, capacity },
  );
  const finishes = new GroupCommit<Finish, FinishOutcome>(
    { commit: (items) => verbs.finishAttempts(items), keyOf: (item) => item.attempt },
    { largestBatch: 512, capacity },
  );
  // These two are rare; alone, what one agent says of very many attempts would keep every connection from the others.
  const resumes = new GroupCommit<ResumeHome, ResumeOutcome>(
    { commit: (items) => verbs.resumeAttempts(items), keyOf: (item) => item.attempt },
    { largestBatch: 512, capacity },
  );
  const losses = new GroupCommit<LostAttempt, true>(
    { commit: (items) => done(items, verbs.loseAttempts(items)), keyOf: (item) => item.attempt },
    { largestBatch: 512, capacity },
  );
  const presences = new GroupCommit<PresenceChange, true>(
    { commit: (items) => done(items, verbs.writePresence(items)), keyOf: (item) => item.agent },
    { largestBatch: 1_024, capacity },
  );
  return {
    submit: (submission) => submits.add(submission),
    claim: (input) => verbs.claim(input),
    progress: (item) => progress.add(item),
    noteProgress: async (note) => void (await notes.add(note)),
    refuse: async (item) => void (await refusals.add(item)),
    release: (node, offers) => verbs.release(node, offers),
    append: (item) => appends.add(item),
    finish: (item) => finishes.add(item),
    resume: (items) => Promise.all(items.map((item) => resumes.add(item))),
    greet: (greeting) => verbs.greet(greeting),
    readOpen: (agent, listed) => verbs.readOpen(agent, listed),
    async lose({ attempts, ...by }) {
      await Promise.all(attempts.map((attempt) => losses.add({ attempt, ...by })));
    },
    presence: async (change) => void (await presences.add(change)),
    async settle() {
      await Promise.all(
        [submits, progress, notes, refusals, appends, finishes, resumes, losses, presences].map((group) =>
          group.settle(),
        ),
      );
    },
  };
}

/** As stored: each task has a copy of its own. Characters, for a text's bytes would have to be counted. */
function specBytes({ tasks }: NewSubmission): number {
  return tasks.reduce((sum, { spec }) => sum + spec.length, 0);
}

async function done(items: readonly unknown[], written: Promise<void>): Promise<true[]> {
  await written;
  return items.map(() => true as const);
}
