// What a run came to, for people and for programs. Pure.
import { isFinal } from "../../shared/task.ts";
import type { Violation } from "./check.ts";
import { describeFault, faultKinds } from "./fault.ts";
import type { Death, History } from "./history.ts";
import type { PlannedFault } from "./plan.ts";

export interface RunFacts {
  readonly seed: number;
  readonly nodes: number;
  readonly agents: number;
  readonly perSecond: number;
  /** Of load; healing takes its time after that. */
  readonly lastedMs: number;
  /** From the last healing until nothing was open; null when it never came. */
  readonly settledMs: number | null;
  readonly heldBack: number;
  /** Those that were carried out, in order. */
  readonly faults: readonly PlannedFault[];
  /** Why the database had no new standby in time, for each that was late. Until the end it has none then. */
  readonly lateStandbys: readonly string[];
}

export interface Report {
  readonly facts: RunFacts;
  /** Of every kind, also of those that did not come. */
  readonly faultCounts: Readonly<Record<string, number>>;
  readonly submissions: number;
  readonly answered: number;
  /** Tries that brought no answer, or one to try again on, by code. */
  readonly troubles: Readonly<Record<string, number>>;
  readonly ends: Readonly<Record<string, number>>;
  readonly starts: number;
  readonly longestAnswerMs: number;
  /** From the row's making to its end, by the database's clock. */
  readonly longestTaskMs: number;
  readonly deaths: readonly Death[];
  readonly violations: readonly Violation[];
}

export function reportOf(facts: RunFacts, history: History, violations: readonly Violation[]): Report {
  const { submitted, attempts, truths } = history;
  const count = (items: readonly string[]): Record<string, number> =>
    Object.fromEntries([...Map.groupBy(items, (item) => item)].map(([item, all]) => [item, all.length]));
  const kinds = count(facts.faults.map(({ fault }) => fault.kind));
  const answerMs = submitted.flatMap(({ answers, invokedAtMs }) => answers.map(({ atMs }) => atMs - invokedAtMs));
  const taskMs = attempts.flatMap(({ createdAtMs, finishedAtMs, state }) =>
    isFinal(state) && finishedAtMs !== null ? [finishedAtMs - createdAtMs] : [],
  );
  return {
    facts,
    faultCounts: Object.fromEntries(faultKinds.map((kind) => [kind, kinds[kind] ?? 0])),
    submissions: submitted.length,
    answered: submitted.filter(({ answers }) => answers.length > 0).length,
    troubles: count(submitted.flatMap(({ troubles }) => troubles)),
    ends: count(attempts.map(({ state }) => state)),
    starts: [...truths.values()].flat().filter(({ word }) => word === "start").length,
    longestAnswerMs: largest(answerMs),
    longestTaskMs: largest(taskMs),
    deaths: history.deaths,
    violations,
  };
}

export function asMarkdown(report: Report): string {
  const { facts, faultCounts, violations } = report;
  const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
  const listed = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .filter(([, count]) => count > 0)
      .map(([name, count]) => `${name} ${count}`)
      .join(", ") || "none";
  const settled = facts.settledMs === null ? "NEVER" : seconds(facts.settledMs);
  return [
    `# Nemesis, seed ${facts.seed}`,
    "",
    `- ${facts.nodes} nodes, ${facts.agents} agents, ${seconds(facts.lastedMs)} of load and faults, everything done ${settled} after healing`,
    `- faults: ${facts.faults.length} (${listed(faultCounts)})`,
    `- submissions: ${report.submissions} (${((report.submissions * 1_000) / facts.lastedMs).toFixed(1)}/s of ${facts.perSecond}/s wished, ${facts.heldBack} held back), answered ${report.answered}; tried again: ${listed(report.troubles)}`,
    `- starts: ${report.starts}; ends: ${listed(report.ends)}`,
    `- longest: answer ${seconds(report.longestAnswerMs)}, task ${seconds(report.longestTaskMs)}`,
    `- processes that ended by themselves: ${report.deaths.length}`,
    ...report.deaths.slice(0, 20).map(({ name, exitCode, lastWords }) => `  - ${name} with ${exitCode}: ${lastWords}`),
    ...facts.lateStandbys.map((why) => `- a new standby of the database was late: ${why}`),
    "",
    `## Violations: ${violations.length}`,
    "",
    ...violations.slice(0, 50).map(({ invariant, subject, what }) => `- ${invariant} ${subject}: ${what}`),
    ...(violations.length > 50 ? [`- and ${violations.length - 50} more`] : []),
    "",
    "## Faults in order",
    "",
    ...facts.faults.map(({ atMs, forMs, fault }) => `- ${seconds(atMs)}, ${seconds(forMs)}: ${describeFault(fault)}`),
    "",
  ].join("\n");
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), 0);
}
