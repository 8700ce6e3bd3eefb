// What the records of a journal add up to: open attempts, acknowledged results still kept, ids that are closed.
// Pure; journal.ts keeps the file. Invariant: folding the snapshot gives the state it was taken from.
import type { AttemptId, BootId, JournalId } from "../shared/ids.ts";
import { bootsPerHello } from "../shared/wire/hello.ts";
import type { ResultRecord } from "../shared/wire/result.ts";
import type { AttemptFacts, JournalRecord, Refusal } from "./journal-record.ts";
import { closedPerRecord } from "./journal-record.ts";

/** Finished attempts whose ids are remembered; an offer of an older one would have to be 100,000 attempts late. */
export const closedKept = 100_000;

export interface JournaledAttempt {
  /** Missing for an attempt that was cancelled before it was offered, and once its result is acknowledged: specs are large. */
  readonly facts: AttemptFacts | undefined;
  /** The host's boot id under which STARTING was written. */
  readonly startingOn: string | undefined;
  readonly cancelGraceMs: number | undefined;
  readonly homeNo: number;
  readonly result: ResultRecord | undefined;
}

export interface JournalState {
  id: JournalId | undefined;
  boot: { readonly counter: number; readonly bootId: BootId; readonly hostBootId: string } | undefined;
  /**
   * Boots since one that a node welcomed, a few before it, this process's last. A journal that was rolled back or copied
   * lacks the boot the cluster knows.
   */
  lineage: readonly BootId[];
  readonly open: Map<AttemptId, JournaledAttempt>;
  readonly acknowledged: Map<AttemptId, JournaledAttempt>;
  /** In the order they were closed; the value is the refusal of those that never ran. */
  readonly closed: Map<AttemptId, Refusal | undefined>;
}

export function emptyJournalState(): JournalState {
  return { id: undefined, boot: undefined, lineage: [], open: new Map(), acknowledged: new Map(), closed: new Map() };
}

const nothing: JournaledAttempt = {
  facts: undefined,
  startingOn: undefined,
  cancelGraceMs: undefined,
  homeNo: 0,
  result: undefined,
};

/** Applies one record in place. A record about an attempt that is closed changes nothing. */
export function applyRecord(state: JournalState, record: JournalRecord): void {
  switch (record.kind) {
    case "journal":
      state.id = record.id;
      return;
    case "boot":
      state.boot = { counter: record.counter, bootId: record.bootId, hostBootId: record.hostBootId };
      state.lineage = withBoot(state.lineage, record.bootId);
      return;
    case "lineage":
      state.lineage = record.boots;
      return;
    case "intent":
      update(state, record.facts.attempt, { facts: record.facts, startingOn: record.startingOn, homeNo: 1 });
      return;
    case "starting":
      update(state, record.attempt, { startingOn: record.hostBootId });
      return;
    case "started":
      return;
    case "cancelling":
      update(state, record.attempt, { cancelGraceMs: record.graceMs });
      return;
    case "home":
      update(state, record.attempt, { homeNo: record.homeNo });
      return;
    case "result":
      update(state, record.attempt, { result: record.record });
      return;
    case "acknowledged": {
      const attempt = state.open.get(record.attempt);
      if (attempt === undefined) return;
      state.open.delete(record.attempt);
      state.acknowledged.set(record.attempt, {
        ...attempt,
        facts: undefined,
        startingOn: undefined,
        cancelGraceMs: undefined,
      });
      return;
    }
    case "tombstone":
      close(state, record.attempt, record.refusal);
      return;
    case "closed":
      for (const attempt of record.attempts) close(state, attempt, undefined);
  }
}

/**
 * Of a process that starts again and again without being welcomed, boots in the middle are left out: what the cluster
 * knows is near the last welcome.
 */
function withBoot(lineage: readonly BootId[], boot: BootId): BootId[] {
  const kept =
    lineage.length < bootsPerHello ? lineage : lineage.toSpliced(bootsPerHello / 2, lineage.length - bootsPerHello + 1);
  return [...kept, boot];
}

function update(state: JournalState, attempt: AttemptId, change: Partial<JournaledAttempt>): void {
  if (state.closed.has(attempt)) return;
  // A record about an acknowledged attempt (a new home after an inquiry) leaves it acknowledged.
  const map = state.acknowledged.has(attempt) ? state.acknowledged : state.open;
  map.set(attempt, { ...(map.get(attempt) ?? nothing), ...change });
}

function close(state: JournalState, attempt: AttemptId, refusal: Refusal | undefined): void {
  state.open.delete(attempt);
  state.acknowledged.delete(attempt);
  state.closed.set(attempt, refusal);
  if (state.closed.size <= closedKept) return;
  const oldest = state.closed.keys().next();
  if (oldest.done !== true) state.closed.delete(oldest.value);
}

/** The fewest records that fold to `state`; what compaction writes. */
export function* snapshotRecords(state: JournalState): Generator<JournalRecord> {
  if (state.id !== undefined) yield { kind: "journal", format: 1, id: state.id };
  if (state.lineage.length > 1) yield { kind: "lineage", boots: state.lineage.slice(0, -1) };
  if (state.boot !== undefined) yield { kind: "boot", ...state.boot };
  let plain: AttemptId[] = [];
  for (const [attempt, refusal] of state.closed) {
    if (refusal === undefined) plain.push(attempt);
    if (plain.length === closedPerRecord || (refusal !== undefined && plain.length > 0)) {
      yield { kind: "closed", attempts: plain };
      plain = [];
    }
    if (refusal !== undefined) yield { kind: "tombstone", attempt, refusal };
  }
  if (plain.length > 0) yield { kind: "closed", attempts: plain };
  for (const [attempt, journaled] of state.acknowledged) {
    yield* recordsOf(attempt, journaled);
    yield { kind: "acknowledged", attempt };
  }
  for (const [attempt, journaled] of state.open) yield* recordsOf(attempt, journaled);
}

function* recordsOf(attempt: AttemptId, journaled: JournaledAttempt): Generator<JournalRecord> {
  const { facts, startingOn, cancelGraceMs, homeNo, result } = journaled;
  if (facts !== undefined) yield { kind: "intent", facts, ...(startingOn === undefined ? {} : { startingOn }) };
  if (cancelGraceMs !== undefined) yield { kind: "cancelling", attempt, graceMs: cancelGraceMs };
  if (homeNo !== (facts === undefined ? 0 : 1)) yield { kind: "home", attempt, homeNo };
  if (result !== undefined) yield { kind: "result", attempt, record: result };
}
