// The vocabulary of the courier: what one session of one agent with this node knows, what can happen to it and what it
// asks for. Plain data, so that drivers and the simulator share it. Decisions are in courier.ts.
import type { AttemptId, BootId, JournalId } from "../../shared/ids.ts";
import type { Lane, Stream } from "../../shared/task.ts";
import type { AttemptReport } from "../../shared/wire/attempt-report.ts";
import type { CancelItem } from "../../shared/wire/cancel.ts";
import type { FromAgent } from "../../shared/wire/from-agent.ts";
import type { FromNode } from "../../shared/wire/from-node.ts";
import type { Hello } from "../../shared/wire/hello.ts";
import type { LogContent } from "../../shared/wire/log.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import type { ProgressItem } from "../../shared/wire/progress.ts";
import type { RefuseItem } from "../../shared/wire/refuse.ts";
import type { ResultItem } from "../../shared/wire/result.ts";
import type { ResumeItem } from "../../shared/wire/resume.ts";
import type { Welcome } from "../../shared/wire/welcome.ts";
import type { AppendOutcome } from "../store/append-log.ts";
import type { FinishOutcome } from "../store/finish-attempts.ts";
import type { GreetOutcome } from "../store/greet-agent.ts";
import type { RowView } from "../store/progress-attempts.ts";
import type { OpenAttempt } from "../store/read-open-attempts.ts";
import type { ResumeOutcome } from "../store/resume-attempts.ts";
import type { OfferedAttempt } from "./courier-offer.ts";

export interface LaneCredit {
  /** Cumulative since the greeting, as the agent's last `ready` said. */
  granted: number;
  /** Offers sent in this session. */
  offered: number;
}

export interface OutstandingOffer {
  readonly offerNo: number;
  readonly lane: Lane;
  readonly sentAtMs: number;
  /** Its spec and its secrets. */
  readonly bytes: number;
}

export interface StreamPosition {
  /** The next offset expected from the agent: stored, or on its way to the store. */
  received: number;
  /** The agent may send up to here: the greatest offset + window it was told. */
  limit: number;
  /** A `resume-from` was sent and its first matching frame has not come: frames in between are old. */
  awaiting: "next" | "rewind";
}

export interface HeldHome {
  homeNo: number;
  /** Its row is final: what still comes of it is no work under way, and an agent may name any attempt it ever had. */
  ended: boolean;
  readonly streams: Record<Stream, StreamPosition>;
}

export interface OpenSession {
  readonly bootId: BootId;
  readonly journalId: JournalId;
  readonly capabilities: ReadonlySet<string>;
  readonly credit: Record<Lane, LaneCredit>;
  /** Changed in courier-unanswered.ts only, with their bytes. */
  readonly offers: Map<AttemptId, OutstandingOffer>;
  /** Of all that are in `offers`. */
  offeredBytes: number;
  readonly homes: Map<AttemptId, HeldHome>;
  /** How many of `homes` have not ended: the load is asked for often, and an agent may hold many that have. */
  openHomes: number;
  /** A suspect session is silent on an offer: nothing is claimed for it until a frame arrives. */
  trust: "trusted" | "suspect";
  /** What the agent was told last of its slots. */
  slots: number | null;
}

export type CourierState =
  | { readonly kind: "awaiting-hello" }
  | { readonly kind: "judging"; readonly hello: Hello }
  | { readonly kind: "reconciling"; readonly hello: Hello; readonly slots: number | null }
  | { readonly kind: "open"; readonly session: OpenSession }
  | { readonly kind: "closed" };

export type CourierEvent =
  | { readonly kind: "frame"; readonly message: FromAgent }
  | { readonly kind: "greeted"; readonly outcome: GreetOutcome }
  | {
      readonly kind: "reconciled";
      readonly rows: readonly OpenAttempt[];
      readonly welcome: Pick<Welcome, "node" | "nodes" | "timings" | "wallMs">;
    }
  /** The agent's open rows, read again after a database failover. */
  | { readonly kind: "reread"; readonly rows: readonly OpenAttempt[] }
  | { readonly kind: "claimed"; readonly attempts: readonly OfferedAttempt[] }
  | {
      readonly kind: "progressed";
      readonly answers: readonly { readonly attempt: AttemptId; readonly view: RowView }[];
    }
  | {
      readonly kind: "appended";
      readonly attempt: AttemptId;
      readonly ends: Readonly<Partial<Record<Stream, number>>>;
      readonly outcome: AppendOutcome;
      readonly windowBytes: number;
    }
  | {
      readonly kind: "finished";
      readonly attempt: AttemptId;
      readonly outcome: FinishOutcome;
      readonly windowBytes: number;
    }
  | {
      readonly kind: "resumed";
      readonly items: readonly ResumeItem[];
      readonly outcomes: readonly ResumeOutcome[];
      readonly windowBytes: number;
    }
  | { readonly kind: "cancel"; readonly items: readonly CancelItem[] }
  | { readonly kind: "nodes"; readonly list: NodeList }
  | { readonly kind: "settings"; readonly slots: number | null }
  | { readonly kind: "go-away"; readonly afterMs: number; readonly reason: string }
  /** A ping or pong arrived: the agent lives and the connection carries. */
  | { readonly kind: "alive" }
  /** Time passes; about once a second while an offer is unanswered. */
  | { readonly kind: "tick" }
  | { readonly kind: "closed" };

export interface ReachedItem {
  readonly attempt: AttemptId;
  readonly homeNo: number;
  readonly homeHere: boolean;
  readonly reached: "accepted" | "running";
}

export type CourierEffect =
  /** `bytes`: what the message holds while it waits, when that may be much. */
  | { readonly kind: "send"; readonly message: FromNode; readonly bytes?: number }
  | { readonly kind: "close"; readonly code: number; readonly reason: string }
  | { readonly kind: "greet"; readonly hello: Hello }
  | { readonly kind: "reconcile"; readonly listed: readonly AttemptReport[] }
  | { readonly kind: "opened" }
  /** Credit or trust has changed: this session can be claimed for. */
  | { readonly kind: "claimable" }
  | { readonly kind: "progress"; readonly items: readonly ReachedItem[] }
  /** How far scripts say they are: for people, and of no consequence when it is lost. */
  | { readonly kind: "note-progress"; readonly items: readonly ProgressItem[] }
  | { readonly kind: "refuse"; readonly items: readonly RefuseItem[] }
  | {
      readonly kind: "append";
      readonly attempt: AttemptId;
      readonly homeNo: number;
      readonly stream: Stream;
      readonly offset: number;
      readonly content: LogContent;
    }
  | { readonly kind: "finish"; readonly items: readonly ResultItem[] }
  | { readonly kind: "resume"; readonly items: readonly ResumeItem[] }
  | { readonly kind: "lose"; readonly attempts: readonly AttemptId[]; readonly answer: "unknown" | "collected" }
  | { readonly kind: "release"; readonly offers: readonly { readonly attempt: AttemptId; readonly offerNo: number }[] }
  | { readonly kind: "renew"; readonly spki: Uint8Array; readonly proof: Uint8Array }
  | { readonly kind: "ping" };

export interface CourierStep {
  readonly state: CourierState;
  readonly effects: readonly CourierEffect[];
}
