// What a greeting means for attempts: the rows the database holds against the attempts the agent listed (DESIGN 4.7).
// Absence from the list ends nothing; it only asks. Pure.
import type { AttemptId, JournalId } from "../../shared/ids.ts";
import { isFinal, rank, rankOf } from "../../shared/task.ts";
import type { AttemptReport } from "../../shared/wire/attempt-report.ts";
import type { CancelItem } from "../../shared/wire/cancel.ts";
import type { Verdict } from "../../shared/wire/welcome.ts";
import type { OpenAttempt } from "../store/read-open-attempts.ts";
import type { ReachedItem } from "./courier-state.ts";

export interface Reconciliation {
  readonly verdicts: { readonly attempt: AttemptId; readonly verdict: Verdict }[];
  /** Listed attempts whose rows stand lower than the agent says. */
  readonly reached: ReachedItem[];
  readonly cancels: CancelItem[];
  /** Rows the agent accepted and does not list. */
  readonly inquiries: AttemptId[];
  /** Open rows whose result the agent has delivered and forgotten. */
  readonly collected: AttemptId[];
}

export interface GreetingView {
  readonly journalId: JournalId;
  readonly listed: readonly AttemptReport[];
  readonly rows: readonly OpenAttempt[];
}

export function reconcile({ journalId, listed, rows }: GreetingView): Reconciliation {
  const found: Reconciliation = { verdicts: [], reached: [], cancels: [], inquiries: [], collected: [] };
  const rowOf = new Map(rows.map((row) => [row.attempt, row]));
  for (const report of listed) {
    const row = rowOf.get(report.attempt);
    rowOf.delete(report.attempt);
    found.verdicts.push({ attempt: report.attempt, verdict: verdictOf(report, row) });
    if (row === undefined || isFinal(row.state)) continue;
    if (report.state === "collected") found.collected.push(row.attempt);
    if (report.state !== "accepted" && report.state !== "running") continue;
    if (rankOf(report.state) <= row.rank) continue;
    found.reached.push({ attempt: row.attempt, homeNo: report.homeNo, homeHere: false, reached: report.state });
  }
  for (const row of rowOf.values()) {
    if (isFinal(row.state) || row.journalId !== journalId) continue;
    if (row.rank >= rank.accepted) found.inquiries.push(row.attempt);
    if (row.cancelRequested) found.cancels.push({ attempt: row.attempt, graceMs: row.graceMs });
  }
  for (const { attempt, verdict } of found.verdicts) {
    const row = verdict === "cancel" ? rows.find((one) => one.attempt === attempt) : undefined;
    if (row !== undefined) found.cancels.push({ attempt, graceMs: row.graceMs });
  }
  return found;
}

function verdictOf(report: AttemptReport, row: OpenAttempt | undefined): Verdict {
  if (row === undefined) return "unknown";
  if (report.state === "finished" || report.state === "collected") return "keep";
  if (row.cancelRequested || row.state === "cancelled" || row.state === "abandoned") return "cancel";
  return "keep";
}
