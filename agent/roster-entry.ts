// One attempt as roster.ts and homes.ts hold it in memory, and what can be read off it. No decisions.
import type { AttemptId } from "../shared/ids.ts";
import type { AttemptReport } from "../shared/wire/attempt-report.ts";
import type { AttemptState } from "./attempt.ts";
import type { AttemptFacts } from "./journal-record.ts";
import type { SessionNo } from "./roster-event.ts";

export interface Entry {
  readonly attempt: AttemptId;
  /** Missing for an attempt that was cancelled before it was offered, and once its result is acknowledged: specs are large. */
  facts: AttemptFacts | undefined;
  state: AttemptState;
  home: SessionNo | undefined;
  homeNo: number;
  log: "flowing" | "drained";
  resend: { readonly atMs: number; readonly delayMs: number } | undefined;
  acknowledgedAtMs: number | undefined;
  /** `abandoned`: a person gave it up, and what cannot be killed of it holds nothing. */
  standing: "wanted" | "abandoned";
}

export function newEntry(of: Pick<Entry, "attempt" | "facts" | "state" | "homeNo">): Entry {
  const fresh = { log: "flowing", resend: undefined, acknowledgedAtMs: undefined, standing: "wanted" } as const;
  return { ...of, ...fresh, home: undefined };
}

/** Whether the attempt is in the journal for certain, so that a node may be told of it. */
export function isDurable({ state, facts }: Entry): boolean {
  if (state.kind === "concluding") return facts?.spec.kind === "script";
  return state.kind !== "recording";
}

export function hasLog(entry: Entry): boolean {
  if (entry.state.kind === "finished") return entry.state.record.out.length + entry.state.record.err.length > 0;
  return entry.facts?.spec.kind === "script";
}

function reportedState(state: AttemptState): AttemptReport["state"] {
  switch (state.kind) {
    case "recording":
    case "waiting":
    case "committing":
      return "accepted";
    case "finished":
      return "finished";
    default:
      return "running";
  }
}

/** What may be told of it, seen from this session; nothing until it is durable. */
export function reportOf(entry: Entry, session: SessionNo | undefined): AttemptReport | undefined {
  if (!isDurable(entry)) return undefined;
  const homeHere = session !== undefined && entry.home === session;
  return { attempt: entry.attempt, state: reportedState(entry.state), homeNo: entry.homeNo, homeHere };
}
