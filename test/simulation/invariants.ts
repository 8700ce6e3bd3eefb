// Invariants of the whole history (RELIABILITY 3.6), looked at when everything was healed and had its time. Each answers what
// is wrong, or nothing.
import type { AttemptId } from "../../shared/ids.ts";
import { streams } from "../../shared/task.ts";
import type { SimAgent } from "./agent.ts";
import { principal } from "./client.ts";
import type { ModelDatabase } from "./model/database.ts";
import type { SimNode } from "./node.ts";
import type { AttemptRow, LateRow } from "./model/rows.ts";
import { sha256At } from "./script.ts";
import type { ScriptTruth, Truth } from "./truth.ts";
import type { Watch } from "./watch.ts";

export interface Evidence {
  readonly db: ModelDatabase;
  readonly truth: Truth;
  readonly watch: Watch;
  readonly agents: readonly SimAgent[];
  readonly nodes: readonly SimNode[];
  readonly isOwed: (row: AttemptRow) => boolean;
}

type Check = (evidence: Evidence) => string[];

/** The server's own verdicts; the agent's result, if one comes, is kept beside them. */
const serverStates = new Set<string>(["lost", "expired", "refused", "abandoned"]);

function isExcused({ truth, watch }: Evidence, row: Pick<AttemptRow, "id" | "agent">): boolean {
  return truth.excused.has(row.id) || watch.cloned.has(row.agent);
}

/** I1: what was acknowledged is there. */
const ackedIsStored: Check = ({ db, truth }) =>
  [...truth.acked.values()].flatMap(({ key, tasks }) => {
    if (truth.excusedKeys.has(key)) return [];
    const missing = tasks.filter((task) => db.tasks.get(task) === undefined);
    return missing.map((task) => `I1: ${task} of ${key} was acknowledged and is gone`);
  });

/** I2: every attempt of an agent that lives comes to its end; one of an agent that is gone, when its limit has passed. */
const everythingEnds: Check = ({ db, isOwed }) =>
  [...db.attempts.rows.values()]
    .filter((row) => row.rank !== 9 && isOwed(row))
    .map((row) => `I2: ${row.id} is still ${row.state}${row.cancelRequested ? " with a cancel" : ""}`);

/** I3: nothing that nobody asked for. */
const noPhantoms: Check = ({ db, truth }) =>
  [...db.submissions.rows.values()]
    .filter(({ idempotencyKey, principal: by }) => by !== principal || !truth.invoked.has(idempotencyKey))
    .map(({ id }) => `I3: nobody asked for ${id}`);

/** I7: a script that finished has the outcome it had. */
const finishIsKnown: Check = (evidence) =>
  [...evidence.truth.scripts.values()].flatMap((script) => {
    const { exit, attempt } = script;
    const row = evidence.db.attempts.get(attempt);
    if (exit === undefined || row === undefined || isExcused(evidence, row) || script.wasCutShort) return [];
    if (evidence.truth.stranded.has(row.agent)) return [];
    const told = row.result === null ? lateOf(evidence, attempt) : { exitCode: row.exitCode, signal: row.signal };
    if (told === undefined) return [`I7: ${attempt} ended with ${exit.exitCode ?? exit.signal} and is ${row.state}`];
    if (told.exitCode === exit.exitCode && told.signal === exit.signal) return [];
    return [`I7: ${attempt} ended with ${exit.exitCode ?? exit.signal}, told is ${told.exitCode ?? told.signal}`];
  });

/** I7: a script that ended by itself is never called cancelled, timed out or interrupted. */
const outcomeFits: Check = (evidence) =>
  [...evidence.truth.scripts.values()].flatMap((script) => {
    const row = evidence.db.attempts.get(script.attempt);
    if (script.exit === undefined || row === undefined || row.result === null || isExcused(evidence, row)) return [];
    if (script.wasSignalled || script.wasCutShort || serverStates.has(row.state)) return [];
    // Its agent had begun to end it, and died before the first signal: a successor cannot tell that from a script that obeyed.
    if (script.wasRunningThen && row.state === script.endedFor) return [];
    const expected = script.exit.exitCode === 0 ? "succeeded" : "failed";
    return row.state === expected ? [] : [`I7: ${row.id} ended by itself and is ${row.state}: ${row.reason}`];
  });

function lateOf({ db }: Evidence, attempt: AttemptId): LateRow["result"] | undefined {
  return [...db.lateResults.rows.values()].find((late) => late.attempt === attempt)?.result;
}

/** I7: an outcome is called unknown only where a journal was lost, or a database forgot. */
const lossesAreTrue: Check = (evidence) =>
  [...evidence.db.attempts.rows.values()].flatMap((row) => {
    if (row.reason !== "journal-missing" && row.reason !== "result-collected") return [];
    const agent = evidence.db.agents.get(row.agent);
    if (isExcused(evidence, row) || agent === undefined || agent.retiredJournals.length > 0) return [];
    return [`I7: ${row.id} is lost: ${row.reason}, and no journal was`];
  });

/** I7: an interruption is told only of a shim that lost its life, or its machine's power, or its gate to a dying agent. */
const interruptionsAreTrue: Check = (evidence) =>
  [...evidence.db.attempts.rows.values()].flatMap((row) => {
    if (row.reason !== "shim-died" && row.reason !== "shim-never-signed") return [];
    if (isExcused(evidence, row) || evidence.truth.hindered.has(row.id)) return [];
    return [`I7: ${row.id} is ${row.state}: ${row.reason}, and nothing happened to its shim`];
  });

/** I7: a script that was being ended is told to have ended for that, whoever tells it. */
const endIsExplained: Check = (evidence) =>
  [...evidence.truth.scripts.values()].flatMap(({ attempt, endedFor, wasCutShort }) => {
    const row = evidence.db.attempts.get(attempt);
    if (endedFor === undefined || wasCutShort || row === undefined || row.result === null) return [];
    if (isExcused(evidence, row) || row.state === endedFor) return [];
    return [`I7: ${attempt} was ended because it was to be ${endedFor}, and is ${row.state}: ${row.reason}`];
  });

/** I8: an agent has one result of an attempt, kept in the row or beside it; another one means that it was made anew. */
const oneResult: Check = (evidence) =>
  [...Map.groupBy(evidence.db.lateResults.rows.values(), ({ attempt }) => attempt)].flatMap(([attempt, late]) => {
    const row = evidence.db.attempts.get(attempt);
    if (row === undefined || isExcused(evidence, row)) return [];
    // A damaged journal may have lost the record of a result that was told: it is made anew from the files.
    if (evidence.truth.stranded.has(row.agent)) return [];
    if (row.result !== null) return [`I8: ${attempt} has the agent's result and another one beside it`];
    return late.length === 1 ? [] : [`I8: ${attempt} is ${row.state} and has ${late.length} results beside it`];
  });

/** Sessions of agents that were revoked, removed or quarantined. */
export function distrustedSessions(db: ModelDatabase, nodes: readonly SimNode[]): string[] {
  const distrusted = [...db.agents.rows.values()].filter(({ status }) => status !== "active");
  return nodes.flatMap(({ name: node, couriers }) =>
    distrusted.flatMap(({ id, name, status }) =>
      couriers?.sessions.get(id) === undefined ? [] : [`${name}, ${status}, has a session with ${node}`],
    ),
  );
}

/** I15: nobody serves an agent that is not trusted any more. */
const distrustReaches: Check = ({ db, nodes }) => distrustedSessions(db, nodes).map((found) => `I15: ${found}`);

/** I10: the whole log of a finished attempt is stored, and is what was produced. */
const logIsWhole: Check = (evidence) =>
  [...evidence.db.attempts.rows.values()].flatMap((row) => {
    const log = evidence.db.logs.get(row.id);
    const script = evidence.truth.scripts.get(row.id);
    if (row.result === null || log === undefined || isExcused(evidence, row)) return [];
    return streams.flatMap((stream) => {
      const told = row.result?.[stream];
      const stored = log.next[stream];
      if (told === undefined) return [];
      if (stored < told.length) return [`I10: ${stream} of ${row.id} has ${stored} of ${told.length} bytes`];
      const isOmitted = log.chunks[stream].some(({ content }) => content === null);
      if (script?.exit === undefined || script.wasCutShort || script.isPunched || isOmitted) return [];
      return wholeStream(script, stream, told);
    });
  });

function wholeStream(
  script: ScriptTruth,
  stream: "out" | "err",
  told: { readonly length: number; readonly sha256: string },
): string[] {
  const { attempt, produced } = script;
  if (told.length !== produced[stream])
    return [`I10: ${stream} of ${attempt}: ${told.length} told, ${produced[stream]} produced`];
  return told.sha256 === sha256At({ attempt, stream }, told.length)
    ? []
    : [`I10: ${stream} of ${attempt} has another digest`];
}

/** I19: one key, one submission, and the tasks that were answered. */
const keysAreUnique: Check = ({ db, truth }) => {
  const perKey = Map.groupBy(db.submissions.rows.values(), ({ idempotencyKey }) => idempotencyKey);
  return [...perKey].flatMap(([key, found]) => {
    if (found.length > 1) return [`I19: ${key} has ${found.length} submissions`];
    const acked = truth.acked.get(key);
    if (acked === undefined || truth.excusedKeys.has(key)) return [];
    return found[0]?.id === acked.submission ? [] : [`I19: ${key} was answered with another submission than is stored`];
  });
};

/** I22: nothing is left to tell between agents that live and the database. */
const nothingLeftToTell: Check = ({ db, truth, agents }) =>
  agents.flatMap((agent) => {
    const { engine } = agent;
    if (engine === undefined || truth.stranded.has(agent.options.agent)) return [];
    const unknown = engine.reports().filter(({ attempt }) => db.attempts.get(attempt) === undefined).length;
    return engine.size.open === unknown
      ? []
      : [`I22: ${agent.options.name} still has ${engine.size.open - unknown} attempts to tell of`];
  });

const checks: readonly Check[] = [
  ackedIsStored,
  everythingEnds,
  noPhantoms,
  finishIsKnown,
  outcomeFits,
  interruptionsAreTrue,
  endIsExplained,
  oneResult,
  lossesAreTrue,
  logIsWhole,
  keysAreUnique,
  nothingLeftToTell,
  distrustReaches,
];

export function checkHistory(evidence: Evidence): string[] {
  return checks.flatMap((check) => check(evidence));
}
