// The words of roster.ts: its options, what happens to it and what it wants done. Data only.
import type { AttemptId, JournalId, NodeId } from "../shared/ids.ts";
import type { AttemptReport } from "../shared/wire/attempt-report.ts";
import type { CancelItem } from "../shared/wire/cancel.ts";
import type { OfferItem } from "../shared/wire/offer.ts";
import type { RefuseItem } from "../shared/wire/refuse.ts";
import type { ResultRecord } from "../shared/wire/result.ts";
import type { Verdict } from "../shared/wire/welcome.ts";
import type { AttemptEffect, AttemptEvent } from "./attempt.ts";
import type { JournalRecord, Refusal } from "./journal-record.ts";

/** Names one greeted connection within this process; never reused. */
export type SessionNo = number;

export interface RosterOptions {
  readonly journalId: JournalId;
  readonly hostBootId: string;
  /** Attempts that run at once in the work lane. Default of the agent: 10. */
  readonly workSlots: number;
  readonly systemSlots: number;
  /** Accepted attempts that may wait for a slot or a lock; beyond it offers are refused `busy`. */
  readonly waitingAtMost: number;
  /** How long an acknowledged result is kept for a database that forgot it, milliseconds. */
  readonly keepAcknowledgedMs: number;
  /** Acknowledged results kept at once; beyond it the oldest is closed early. */
  readonly keptAtMost: number;
  readonly resendFirstMs: number;
  readonly resendCapMs: number;
}

export const defaultRosterOptions = {
  workSlots: 10,
  systemSlots: 4,
  waitingAtMost: 100,
  keepAcknowledgedMs: 600_000,
  keptAtMost: 10_000,
  resendFirstMs: 2_000,
  resendCapMs: 30_000,
} as const;

export interface RosterSize {
  readonly attempts: number;
  readonly open: number;
  readonly running: number;
  readonly waiting: number;
  readonly kept: number;
}

/** What the driver found out about an offer before the core decides. */
export type Admission =
  | { readonly kind: "ok" }
  | { readonly kind: "later"; readonly reason: "busy" | "disk-full" | "window-passed"; readonly detail?: string }
  | { readonly kind: "never"; readonly refusal: Refusal };

export interface AdmittedOffer {
  readonly offer: OfferItem;
  readonly admission: Admission;
}

export type RosterEvent =
  | {
      readonly kind: "session-opened";
      readonly session: SessionNo;
      readonly node: NodeId;
      readonly verdicts: readonly { readonly attempt: AttemptId; readonly verdict: Verdict }[];
    }
  | { readonly kind: "session-ended"; readonly session: SessionNo }
  | { readonly kind: "round-trip"; readonly session: SessionNo; readonly roundTripMs: number }
  | { readonly kind: "go-away"; readonly session: SessionNo }
  | { readonly kind: "offers"; readonly session: SessionNo; readonly offers: readonly AdmittedOffer[] }
  | { readonly kind: "cancels"; readonly session: SessionNo; readonly items: readonly CancelItem[] }
  | { readonly kind: "inquiries"; readonly session: SessionNo; readonly attempts: readonly AttemptId[] }
  | { readonly kind: "result-ack"; readonly attempt: AttemptId; readonly verdict: "acknowledged" | "unknown" }
  /** The node's row has a higher home number than we do: our journal forgot some moves. */
  | {
      readonly kind: "home-superseded";
      readonly session: SessionNo;
      readonly attempt: AttemptId;
      readonly homeNo: number;
    }
  /** Every byte of both streams was sent through this home. */
  | { readonly kind: "log-drained"; readonly attempt: AttemptId; readonly homeNo: number }
  /** The node wants bytes again: the result waits for them. */
  | { readonly kind: "log-rewound"; readonly attempt: AttemptId }
  | { readonly kind: "attempt"; readonly attempt: AttemptId; readonly event: AttemptEvent }
  | { readonly kind: "refusal-durable"; readonly session: SessionNo; readonly item: RefuseItem }
  | { readonly kind: "drain" }
  /** What people set for this agent; null is its own setting. */
  | { readonly kind: "slots"; readonly slots: number | null }
  /** At least each 500 ms while anything waits for time. */
  | { readonly kind: "tick" };

export type RosterItem =
  | {
      readonly type: "accept";
      readonly item: { readonly attempt: AttemptId; readonly offerNo: number; readonly homeNo: number };
    }
  | { readonly type: "refuse"; readonly item: RefuseItem }
  | { readonly type: "state"; readonly item: AttemptReport }
  | {
      readonly type: "started";
      readonly item: { readonly attempt: AttemptId; readonly homeNo: number; readonly startedAtMs: number };
    }
  | { readonly type: "resume"; readonly item: { readonly attempt: AttemptId; readonly homeNo: number } }
  | {
      readonly type: "result";
      readonly item: { readonly attempt: AttemptId; readonly homeNo: number; readonly record: ResultRecord };
    };

export type RosterEffect =
  | { readonly kind: "send"; readonly session: SessionNo; readonly message: RosterItem }
  | { readonly kind: "ready"; readonly session: SessionNo; readonly work: number; readonly system: number }
  | { readonly kind: "attempt"; readonly attempt: AttemptId; readonly effect: AttemptEffect }
  | { readonly kind: "note"; readonly record: JournalRecord }
  /** Append, sync, then step `refusal-durable`. */
  | {
      readonly kind: "append-refusal";
      readonly session: SessionNo;
      readonly item: RefuseItem;
      readonly refusal: Refusal;
    }
  /** Let the log of this attempt flow: a fresh one from byte 0, a resumed one from where the node says. */
  | {
      readonly kind: "attach-log";
      readonly attempt: AttemptId;
      readonly session: SessionNo;
      readonly homeNo: number;
      readonly from: "start" | "node";
    }
  | { readonly kind: "detach-log"; readonly attempt: AttemptId }
  /** Files and memory of the attempt may go. */
  | { readonly kind: "forget"; readonly attempt: AttemptId }
  | { readonly kind: "close-session"; readonly session: SessionNo };
