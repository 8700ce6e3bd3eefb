// The rows the courier's statements touch, as the migrations define them. Times are the database's clock, milliseconds.
// Rows are never changed in place: a change is a new row, so that a transaction can be undone.
import type { NodeDrain } from "../../../server/store/membership.ts";
import type { AgentId, AttemptId, BootId, JournalId, NodeId, SubmissionId, TaskId } from "../../../shared/ids.ts";
import type { Lane, Stream, TaskState } from "../../../shared/task.ts";
import type { ResultRecord } from "../../../shared/wire/result.ts";

export interface AgentRow {
  readonly id: AgentId;
  readonly name: string;
  readonly status: "active" | "quarantined" | "revoked" | "removed";
  readonly statusReason: string;
  readonly bootCounter: number | null;
  readonly bootId: BootId | null;
  readonly journalId: JournalId | null;
  readonly retiredJournals: readonly JournalId[];
  readonly lastSeenAtMs: number | null;
  readonly refusedBootId: BootId | null;
  readonly refusedAtMs: number | null;
  /** Missing: never removed. */
  readonly removedAtMs?: number;
  readonly isPaused?: boolean;
  readonly slots?: number | null;
}

export interface SubmissionRow {
  readonly id: SubmissionId;
  readonly principal: string;
  readonly idempotencyKey: string;
  /** Hex. */
  readonly bodySha256: string;
}

export interface TaskRow {
  readonly id: TaskId;
  readonly submission: SubmissionId;
  readonly agent: AgentId;
  readonly lane: Lane;
  readonly spec: string;
  readonly graceMs: number;
  /** Null: it runs nothing. */
  readonly lockName: string | null;
  readonly lockMode: "full" | "none";
  readonly unreachableLimitMs: number;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
}

export interface AttemptRow {
  readonly id: AttemptId;
  readonly task: TaskId;
  readonly agent: AgentId;
  readonly number: number;
  readonly lane: Lane;
  readonly rank: 0 | 1 | 2 | 3 | 9;
  readonly state: TaskState;
  readonly reason: string;
  readonly band: number;
  readonly queueNo: number;
  readonly offerNo: number;
  readonly journalId: JournalId | null;
  readonly offeredBy: NodeId | null;
  readonly offerUntilMs: number | null;
  readonly unanswered: number;
  readonly cancelRequested: boolean;
  /** Missing: its script has said nothing. */
  readonly progress?: { readonly percent: number | null; readonly message: string; readonly atMs: number };
  readonly homeNode: NodeId | null;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly result: ResultRecord | null;
  readonly resultSha256: string | null;
  readonly createdAtMs: number;
  readonly acceptedAtMs: number | null;
  readonly startedAtMs: number | null;
  readonly finishedAtMs: number | null;
  readonly expiresAtMs: number;
}

export interface Chunk {
  readonly offset: number;
  readonly length: number;
  /** Null: omitted on the agent. */
  readonly content: Uint8Array | null;
  readonly seenAtMs: number | null;
}

export interface LogRow {
  readonly attempt: AttemptId;
  readonly agent: AgentId;
  readonly homeNo: number;
  readonly closed: boolean;
  readonly next: Readonly<Record<Stream, number>>;
  readonly chunks: Readonly<Record<Stream, readonly Chunk[]>>;
}

export interface LateRow {
  readonly attempt: AttemptId;
  readonly resultSha256: string;
  readonly result: ResultRecord;
  readonly receivedAtMs: number;
}

export interface PresenceRow {
  readonly agent: AgentId;
  readonly node: NodeId;
  readonly nodeBootId: BootId;
  readonly sinceMs: number;
}

export interface NodeRecord {
  readonly id: NodeId;
  readonly name: string;
  readonly status: "joined" | "removed";
  readonly bootId: BootId;
  readonly addresses: readonly string[];
  readonly draining: boolean;
  readonly drain: NodeDrain;
  readonly taskCap: number;
  readonly active: number;
  readonly settingsSeen: number;
  readonly joinedAtMs: number;
  readonly startedAtMs: number;
  readonly heartbeatAtMs: number;
}

export interface ClusterRow {
  readonly nodesVersion: number;
  readonly paused: boolean;
  readonly settingsVersion: number;
}
