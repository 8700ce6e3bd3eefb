// The durable verbs of the courier and the promise each keeps. One SQL implementation (postgres-store.ts); a model of
// the same names can stand in for it. `durable` verbs resolve after a synchronous commit, `relaxed` ones may be lost in
// a database crash and are repeated by what the agent's journal makes it send again.
import type { ToldSlots } from "./agent-slots.ts";
import type { AgentId, NodeId } from "../../shared/ids.ts";
import type { AttemptId, TaskId } from "../../shared/ids.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import type { AppendOutcome, LogAppend } from "./append-log.ts";
import type { ClaimedAttempt, ClaimInput } from "./claim-attempts.ts";
import type { Finish, FinishOutcome } from "./finish-attempts.ts";
import type { Greeting, GreetOutcome } from "./greet-agent.ts";
import type { LostAttempts } from "./lose-attempts.ts";
import type { Beat, BeatAnswer, NodeRow } from "./membership.ts";
import type { NodePresence, PresenceChange } from "./presence.ts";
import type { ProgressNote } from "./note-progress.ts";
import type { Progress, RowView } from "./progress-attempts.ts";
import type { OpenAttempt } from "./read-open-attempts.ts";
import type { PendingCancel } from "./read-cancels.ts";
import type { Distrusted, SessionCredential } from "./read-distrusted.ts";
import type { WorkFeed } from "./read-work-feed.ts";
import type { Refusal } from "./refuse-attempts.ts";
import type { ReleasedOffer } from "./release-offers.ts";
import type { ResumeHome, ResumeOutcome } from "./resume-attempts.ts";
import type { NewSubmission, SubmitOutcome } from "./submit-tasks.ts";

export interface CourierStore {
  /** durable: submission, tasks, first attempts and audit row, all or nothing; nothing when a queue would be too long. */
  submit(submission: NewSubmission): Promise<SubmitOutcome>;
  /** durable: each attempt returned was claimed by this call and by no other. */
  claim(input: ClaimInput): Promise<ClaimedAttempt[]>;
  /** relaxed: ranks only grow, a superseded home changes nothing. */
  progress(item: Progress): Promise<RowView>;
  /** relaxed: how far a running script says it is, and since when; a superseded home changes nothing. */
  noteProgress(note: ProgressNote): Promise<void>;
  /** durable for `never`; matches the offer number for `later`. */
  refuse(item: Refusal): Promise<void>;
  /** relaxed: clears the windows of offers that died with their session. */
  release(node: NodeId, offers: readonly ReleasedOffer[]): Promise<void>;
  /** relaxed: stored only at the stream's next offset. */
  append(item: LogAppend): Promise<AppendOutcome>;
  /** durable: rank 9 only with the whole log stored. */
  finish(item: Finish): Promise<FinishOutcome>;
  /** durable: the home number only grows. */
  resume(items: readonly ResumeHome[]): Promise<ResumeOutcome[]>;
  /** durable: boot pair and journal by compare-and-set. */
  greet(greeting: Greeting): Promise<GreetOutcome>;
  readOpen(agent: AgentId, listed: readonly AttemptId[]): Promise<OpenAttempt[]>;
  /** durable: only rows bound to that journal. */
  lose(lost: LostAttempts): Promise<void>;
  /** relaxed. */
  presence(change: PresenceChange): Promise<void>;
}

/** What a node looks up when no hint tells it, and its own place in the cluster. */
export interface ClusterStore {
  workFeed(after: number): Promise<WorkFeed>;
  /** Of these agents, those with something to claim. */
  knownWork(agents: readonly AgentId[]): Promise<readonly AgentId[]>;
  cancels(agents: readonly AgentId[]): Promise<PendingCancel[]>;
  distrusted(sessions: readonly SessionCredential[]): Promise<Distrusted[]>;
  /** Of these agents, those told another number of slots than is set, and what is. */
  settings(told: readonly ToldSlots[]): Promise<readonly ToldSlots[]>;
  /** The database's clock, milliseconds since 1970. */
  clockMs(): Promise<number>;
  /** durable: gives up what is due; answers whose tasks ended. */
  sweep(): Promise<TaskId[]>;
  /** relaxed. */
  settlePresence(presence: NodePresence): Promise<void>;
  /** False when this node was removed from the cluster. */
  join(node: NodeRow): Promise<boolean>;
  /** durable: this node's sign of life and load; answers what is set for it and how loaded the others are. */
  beat(beat: Beat): Promise<BeatAnswer>;
  /** How many attempts wait for these agents, counted up to a bound per agent. */
  pending(agents: readonly AgentId[]): Promise<number>;
  nodeList(): Promise<NodeList>;
}
