// The pure core of one attempt's life on the agent, from the offer to the durable result (DESIGN section 4).
// Leaves homes, credit and resends to roster.ts and the acts to execution.ts.
// Invariant: INTENT is durable before accept, STARTING before spawn, CANCELLING or a won gate before a cancel acts,
// RESULT before it is sent; and only the gate decides between "started" and "never started".
import type { AttemptId } from "../shared/ids.ts";
import type { Outcome } from "../shared/task.ts";
import { sha256Hex } from "../shared/thumbprint.ts";
import type { ResultRecord } from "../shared/wire/result.ts";
import type { NeverEnding } from "./attempt-folder.ts";
import type { EndCause, Exit, SeenExit } from "./exit.ts";
import type { AttemptFacts, JournalRecord } from "./journal-record.ts";
import type { RecoveryAction } from "./recovery.ts";

/** What is known of the end before the streams are measured. */
export interface Ending extends Exit {
  readonly outcome: Outcome;
  readonly reason: string;
}

export type AttemptState =
  /** INTENT (with STARTING when a slot is held) is on its way to the disk. */
  | { readonly kind: "recording"; readonly slot: "held" | "wanted"; readonly cancel: boolean }
  /** In the journal, waits for a slot. */
  | { readonly kind: "waiting" }
  /** STARTING is on its way to the disk. */
  | { readonly kind: "committing"; readonly cancel: boolean }
  /** The shim was told to start; who won the gate is not known yet. */
  | { readonly kind: "starting" }
  /** We try to win the gate so that it never starts. */
  | { readonly kind: "declaring"; readonly ending: Ending; readonly graceMs: number; readonly seen: Seen }
  | { readonly kind: "running" }
  /** CANCELLING is on its way to the disk. */
  | { readonly kind: "recording-cancel"; readonly graceMs: number }
  /** TERM, grace, KILL are under way. */
  | { readonly kind: "ending"; readonly cause: EndCause }
  /** The script ended; what is left of its tree is being killed. */
  | { readonly kind: "sweeping"; readonly ending: Ending }
  /** Lengths and digests of the streams are being taken. */
  | { readonly kind: "measuring"; readonly ending: Ending }
  /** RESULT is on its way to the disk. */
  | { readonly kind: "concluding"; readonly record: ResultRecord }
  | { readonly kind: "finished"; readonly record: ResultRecord };

/** What was seen of a shim while the gate was asked: it is told once, and counts when the shim turns out to have won. */
export interface Seen {
  readonly startedAtMs?: number;
  readonly exit?: SeenExit;
  /** Why the shim is dead without an exit. */
  readonly vanished?: string;
}

export type DurableMark = "intent" | "starting" | "cancelling" | "result";

/** What the driver measured of streams and times. */
export type Measurement = Pick<ResultRecord, "startedAtMs" | "finishedAtMs" | "durationMs" | "out" | "err" | "outputs">;

export type AttemptEvent =
  | { readonly kind: "durable"; readonly mark: DurableMark }
  | { readonly kind: "slot-granted" }
  /** It has waited for its lock as long as it would. */
  | { readonly kind: "lock-overdue" }
  /** The shim's marker is there: it won the gate. */
  | { readonly kind: "started"; readonly startedAtMs: number }
  /** No shim is or will be there, and this is why. */
  | { readonly kind: "not-started"; readonly detail: string }
  | { readonly kind: "gate"; readonly winner: "us" | "shim" }
  | { readonly kind: "exited"; readonly exit: SeenExit }
  /** The shim is dead and left no valid exit. */
  | { readonly kind: "vanished"; readonly reason: string }
  | { readonly kind: "deadline" }
  | { readonly kind: "cancel"; readonly graceMs: number }
  /** The script had ended by itself before the kill signalled anything; what was left of its tree is gone but for `left`. */
  | { readonly kind: "outrun"; readonly exit: Exit; readonly left: readonly number[] }
  /** The kill or sweep is over; `left` are pids that would not die. */
  | { readonly kind: "killed"; readonly exit: SeenExit | undefined; readonly left: readonly number[] }
  /** `lost`: some output found no room on the disk, so the lengths tell what was stored. */
  | {
      readonly kind: "measured";
      readonly measurement: Measurement;
      readonly output: "complete" | "lost";
      /** `exceeded`: the kernel killed something of it for want of memory. */
      readonly memory: "kept" | "exceeded";
      /** Output variables that are not in the measurement, and why; empty or missing when they all are. */
      readonly droppedOutputs?: string;
    };

export type AttemptEffect =
  | { readonly kind: "append"; readonly record: JournalRecord; readonly mark: DurableMark }
  /** Append without waiting. */
  | { readonly kind: "note"; readonly record: JournalRecord }
  /** Write folder and script; may run while INTENT is synced, for nothing depends on it being durable. */
  | { readonly kind: "prepare" }
  | { readonly kind: "spawn" }
  | { readonly kind: "adopt" }
  /** Try to win the gate and leave the reason there; answered by `gate`. */
  | { readonly kind: "declare-never"; readonly ending: NeverEnding }
  | { readonly kind: "arm-deadline" }
  | { readonly kind: "kill"; readonly cause: EndCause; readonly graceMs: number }
  | { readonly kind: "sweep" }
  | { readonly kind: "measure" }
  | { readonly kind: "accept" }
  | { readonly kind: "announce-start"; readonly startedAtMs: number }
  | { readonly kind: "release-slot" }
  /** The result is durable and may be sent. */
  | { readonly kind: "finished" };

/** What recovery.ts may decide about an attempt the journal knows. */
export type ResumeAction = Exclude<RecoveryAction, { readonly kind: "orphan" | "ignore" }>;

export interface AttemptStep {
  readonly state: AttemptState;
  readonly effects: readonly AttemptEffect[];
}

export interface AttemptContext {
  readonly facts: AttemptFacts;
  readonly hostBootId: string;
  readonly wallMs: number;
}

type Measured = Extract<AttemptEvent, { readonly kind: "measured" }>;

const emptyStream = { length: 0, sha256: sha256Hex("") };
const step = (state: AttemptState, ...effects: AttemptEffect[]): AttemptStep => ({ state, effects });
const cancelledBeforeStart: NeverEnding = { outcome: "cancelled", reason: "never-started" };
const lockNotHad: NeverEnding = { outcome: "timed-out", reason: "lock-wait" };
const kill = (cause: EndCause, graceMs: number): AttemptStep =>
  step({ kind: "ending", cause }, { kind: "kill", cause, graceMs });
const declareNever = (ending: NeverEnding, graceMs: number): AttemptStep =>
  step(
    { kind: "declaring", ending: { ...ending, exitCode: null, signal: null }, graceMs, seen: {} },
    { kind: "declare-never", ending },
  );

/** The record of an attempt that never started. */
export function neverStartedRecord(ending: Ending, wallMs: number): ResultRecord {
  return {
    ...ending,
    startedAtMs: null,
    finishedAtMs: Math.trunc(wallMs),
    durationMs: 0,
    out: emptyStream,
    err: emptyStream,
  };
}

/** There is nothing to run, so it is over where it begins; after a torn write, where its intent is found without result. */
export function concludeNoOp(attempt: AttemptId, wallMs: number): AttemptStep {
  const nowMs = Math.trunc(wallMs);
  const ending: Ending = { outcome: "succeeded", reason: "", exitCode: null, signal: null };
  const record = { ...neverStartedRecord(ending, nowMs), startedAtMs: nowMs };
  return step(
    { kind: "concluding", record },
    { kind: "append", record: { kind: "result", attempt, record }, mark: "result" },
  );
}

/** A new attempt. A no-op has nothing to run, so its intent and its result share one sync. */
export function beginAttempt(context: AttemptContext, options: { readonly slot: "held" | "wanted" }): AttemptStep {
  const { facts, hostBootId } = context;
  if (facts.spec.kind === "no-op") {
    const intent: JournalRecord = { kind: "intent", facts, startingOn: hostBootId };
    return prepend({ kind: "append", record: intent, mark: "intent" }, concludeNoOp(facts.attempt, context.wallMs));
  }
  const intent: JournalRecord =
    options.slot === "held" ? { kind: "intent", facts, startingOn: hostBootId } : { kind: "intent", facts };
  return step(
    { kind: "recording", slot: options.slot, cancel: false },
    { kind: "append", record: intent, mark: "intent" },
    { kind: "prepare" },
  );
}

export function stepAttempt(state: AttemptState, event: AttemptEvent, context: AttemptContext): AttemptStep {
  const { attempt } = context.facts;
  const { hostBootId } = context;
  const declare = (graceMs: number): AttemptStep => declareNever(cancelledBeforeStart, graceMs);
  const conclude = (record: ResultRecord): AttemptStep =>
    step(
      { kind: "concluding", record },
      { kind: "append", record: { kind: "result", attempt, record }, mark: "result" },
    );
  const begin = (startedAtMs: number): AttemptStep =>
    step(
      { kind: "running" },
      { kind: "note", record: { kind: "started", attempt, startedAtMs } },
      { kind: "announce-start", startedAtMs },
      { kind: "arm-deadline" },
    );
  const sweep = (ending: Ending): AttemptStep => step({ kind: "sweeping", ending }, { kind: "sweep" });
  const measure = (ending: Ending): AttemptStep => step({ kind: "measuring", ending }, { kind: "measure" });
  const recordCancel = (graceMs: number): AttemptStep =>
    step(
      { kind: "recording-cancel", graceMs },
      { kind: "append", record: { kind: "cancelling", attempt, graceMs }, mark: "cancelling" },
    );

  switch (state.kind) {
    case "recording":
      if (event.kind === "cancel") return step({ ...state, cancel: true });
      if (event.kind !== "durable" || event.mark !== "intent") return step(state);
      if (state.cancel) return prepend({ kind: "accept" }, declare(0));
      if (state.slot === "wanted") return step({ kind: "waiting" }, { kind: "accept" });
      return step({ kind: "starting" }, { kind: "spawn" }, { kind: "accept" });
    case "waiting":
      if (event.kind === "cancel") return declare(event.graceMs);
      if (event.kind === "lock-overdue") return declareNever(lockNotHad, 0);
      if (event.kind !== "slot-granted") return step(state);
      return step(
        { kind: "committing", cancel: false },
        { kind: "append", record: { kind: "starting", attempt, hostBootId }, mark: "starting" },
      );
    case "committing":
      if (event.kind === "cancel") return step({ ...state, cancel: true });
      if (event.kind !== "durable" || event.mark !== "starting") return step(state);
      return state.cancel ? declare(0) : step({ kind: "starting" }, { kind: "spawn" });
    case "starting":
      switch (event.kind) {
        case "started":
          return begin(event.startedAtMs);
        case "cancel":
          return declare(event.graceMs);
        case "not-started": {
          const reason = `start-failed: ${event.detail}`.slice(0, 1_000);
          return declareNever({ outcome: "failed", reason }, 0);
        }
        case "exited":
          return sweep(endingOf(event.exit));
        case "vanished":
          return sweep(interrupted(event.reason));
        default:
          return step(state);
      }
    case "declaring":
      // Whether the shim was first is the gate's to say; its marker or exit may be seen before the gate's answer.
      switch (event.kind) {
        case "started":
          return step({ ...state, seen: { ...state.seen, startedAtMs: event.startedAtMs } });
        case "exited":
          return step({ ...state, seen: { ...state.seen, exit: event.exit } });
        case "vanished":
          return step({ ...state, seen: { ...state.seen, vanished: event.reason } });
        case "gate":
          break;
        default:
          return step(state);
      }
      if (event.winner === "us") return conclude(neverStartedRecord(state.ending, context.wallMs));
      if (state.seen.exit !== undefined) return sweep(endingOf(state.seen.exit));
      if (state.ending.outcome === "cancelled") return recordCancel(state.graceMs);
      if (state.seen.vanished !== undefined) return sweep(interrupted(state.seen.vanished));
      return state.seen.startedAtMs === undefined
        ? step({ kind: "starting" }, { kind: "adopt" })
        : begin(state.seen.startedAtMs);
    case "running":
      switch (event.kind) {
        case "exited":
          return sweep(endingOf(event.exit));
        case "vanished":
          return sweep(interrupted(event.reason));
        case "deadline":
          return kill("timed-out", graceOf(context.facts));
        case "cancel":
          return recordCancel(event.graceMs);
        default:
          return step(state);
      }
    case "recording-cancel":
      // A valid exit that was there first stands: nothing has been killed yet.
      if (event.kind === "exited") return sweep(endingOf(event.exit));
      if (event.kind !== "durable" || event.mark !== "cancelling") return step(state);
      return kill("cancelled", state.graceMs);
    case "ending":
      // The exit was there before the first signal, so it stands.
      if (event.kind === "outrun") return measure(swept(endingOf(event.exit), event.left));
      if (event.kind !== "killed") return step(state);
      return measure(killedEnding(state.cause, event.exit, event.left));
    case "sweeping":
      if (event.kind !== "killed") return step(state);
      return measure(swept(seenAtLast(state.ending, event.exit), event.left));
    case "measuring":
      if (event.kind !== "measured") return step(state);
      return conclude({ ...state.ending, ...event.measurement, reason: reasonWith(state.ending, event) });
    case "concluding":
      if (event.kind === "durable" && event.mark === "intent") return step(state, { kind: "accept" });
      if (event.kind !== "durable" || event.mark !== "result") return step(state);
      // What would not die still has its slot and its lock: it is swept until it is gone.
      if (mayHaveLeft(state.record))
        return step({ kind: "finished", record: state.record }, { kind: "finished" }, { kind: "sweep" });
      return step({ kind: "finished", record: state.record }, { kind: "release-slot" }, { kind: "finished" });
    case "finished":
      if (event.kind !== "killed") return step(state);
      return step(state, event.left.length > 0 ? { kind: "sweep" } : { kind: "release-slot" });
  }
}

function prepend(effect: AttemptEffect, next: AttemptStep): AttemptStep {
  return { state: next.state, effects: [effect, ...next.effects] };
}

function graceOf(facts: AttemptFacts): number {
  return facts.spec.kind === "script" ? facts.spec.graceMs : 0;
}

export function interrupted(reason: string): Ending {
  return { outcome: "interrupted", reason, exitCode: null, signal: null };
}

/** A script that ended by itself, unless an agent had begun to end it: then for the reason of that. */
export function endingOf({ exitCode, signal, endedFor }: SeenExit): Ending {
  const exit: Exit = { exitCode, signal };
  if (endedFor !== undefined) return killedEnding(endedFor, exit, []);
  if (signal !== null) return { ...exit, outcome: "failed", reason: "signal" };
  return exitCode === 0
    ? { ...exit, outcome: "succeeded", reason: "" }
    : { ...exit, outcome: "failed", reason: "exit-code" };
}

function killedEnding(cause: EndCause, exit: Exit | undefined, left: readonly number[]): Ending {
  const reason = left.length > 0 ? incomplete(left) : cause === "cancelled" ? "cancel" : "time-limit";
  return {
    outcome: cause,
    reason,
    exitCode: exit?.exitCode ?? null,
    signal: exit?.signal ?? (exit === undefined ? "SIGKILL" : null),
  };
}

/**
 * A shim that was given up may have run its script after all. A code of its own is a valid exit and stands; a signal is
 * the sweep's own, and only told.
 */
function seenAtLast(ending: Ending, exit: SeenExit | undefined): Ending {
  if (ending.outcome !== "interrupted" || exit === undefined) return ending;
  if (exit.signal === null || exit.endedFor !== undefined) return endingOf(exit);
  return { ...ending, exitCode: exit.exitCode, signal: exit.signal };
}

function swept(ending: Ending, left: readonly number[]): Ending {
  return left.length === 0 ? ending : { ...ending, reason: incomplete(left) };
}

/** An exit code speaks for itself; that output or variables are missing, or the kernel's hand in it, does not. */
function reasonWith({ reason: given, outcome }: Ending, measured: Measured): string {
  const { output, memory, droppedOutputs = "" } = measured;
  const speaks = given === "exit-code" || given === "signal";
  const reason = memory === "exceeded" && outcome === "failed" && speaks ? "oom-killed" : given;
  const missing = [
    ...(output === "complete" ? [] : ["output-lost"]),
    ...(droppedOutputs === "" ? [] : [`outputs-dropped: ${droppedOutputs}`]),
  ];
  if (missing.length === 0) return reason;
  const said = reason === "" || reason === "exit-code" ? [] : [reason];
  return [...said, ...missing].join("; ").slice(0, 1_000);
}

const incompleteWord = "kill-incomplete";

function incomplete(left: readonly number[]): string {
  return `${incompleteWord}: ${left.slice(0, 64).join(" ")}`;
}

/** Whether processes of the attempt were left when its result was made; the record is all that a later agent has of it. */
export function mayHaveLeft({ reason }: Pick<ResultRecord, "reason">): boolean {
  return reason.startsWith(incompleteWord);
}

/** Where an attempt of an earlier process goes on. `adopt` answers `started`, or `vanished` when no shim signs in time. */
export function resumeAttempt(action: ResumeAction, graceMs: number): AttemptStep {
  switch (action.kind) {
    case "finished":
      return step({ kind: "sweeping", ending: endingOf(action.exit) }, { kind: "sweep" });
    case "start":
      return step({ kind: "waiting" });
    case "start-again":
      return step({ kind: "starting" }, { kind: "spawn" });
    case "adopt":
    case "await-shim":
      return step({ kind: "starting" }, { kind: "adopt" });
    case "interrupted":
      return step({ kind: "sweeping", ending: interrupted(action.reason) }, { kind: "sweep" });
    case "never-started":
      return declareNever(action.ending ?? cancelledBeforeStart, graceMs);
    case "finish-cancel":
      return kill("cancelled", graceMs);
  }
}
