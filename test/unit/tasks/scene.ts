// An open session of a courier and the values its tests are made of.
import { initialCourier, stepCourier } from "../../../server/tasks/courier.ts";
import type { CourierEffect, CourierEvent, CourierState } from "../../../server/tasks/courier-state.ts";
import type { ClaimedAttempt } from "../../../server/store/claim-attempts.ts";
import type { RowView } from "../../../server/store/progress-attempts.ts";
import type { OpenAttempt } from "../../../server/store/read-open-attempts.ts";
import {
  agentIdSchema,
  attemptIdSchema,
  bootIdSchema,
  journalIdSchema,
  nodeIdSchema,
  taskIdSchema,
  type AttemptId,
} from "../../../shared/ids.ts";
import type { AttemptReport } from "../../../shared/wire/attempt-report.ts";
import type { FromAgent } from "../../../shared/wire/from-agent.ts";
import type { Hello } from "../../../shared/wire/hello.ts";
import type { ResultRecord } from "../../../shared/wire/result.ts";

export const uuid = (number: number): string => `00000000-0000-7000-8000-${number.toString(16).padStart(12, "0")}`;
export const attempt = (number: number): AttemptId => attemptIdSchema.parse(uuid(10_000 + number));
export const agent = agentIdSchema.parse(uuid(1));
export const node = nodeIdSchema.parse(uuid(2));
const journalId = journalIdSchema.parse(uuid(3));
const bootId = bootIdSchema.parse(uuid(4));
export const welcome = {
  node: { id: node, name: "node-a" },
  timings: { pingMs: 10_000, silenceMs: 25_000 },
  nodes: { version: 1, want: 0, nodes: [] },
};

export function hello(change: Partial<Hello> = {}): Hello {
  return {
    type: "hello",
    protocols: { min: 1, max: 1 },
    version: "1.0.0",
    bootCounter: 1,
    bootId,
    journalId,
    attempts: [],
    capabilities: [],
    host: { hostname: "h", os: "linux", arch: "x64", slots: 10 },
    ...change,
  };
}

export function claimed(number: number, change: Partial<ClaimedAttempt> = {}): ClaimedAttempt {
  const spec = JSON.stringify({ kind: "no-op" });
  return {
    attempt: attempt(number),
    task: taskIdSchema.parse(uuid(20_000 + number)),
    agent,
    attemptNumber: 1,
    offerNo: 1,
    lane: "work",
    spec,
    ...change,
  };
}

export const reportOf = (number: number, state: AttemptReport["state"], homeNo = 1): AttemptReport => ({
  attempt: attempt(number),
  state,
  homeNo,
  homeHere: false,
});

export const openRow = (change: Partial<OpenAttempt> = {}): OpenAttempt => ({
  attempt: attempt(1),
  state: "accepted",
  rank: 2,
  journalId,
  cancelRequested: false,
  byAgent: false,
  graceMs: 500,
  ...change,
});

export const view = (change: Partial<Extract<RowView, { kind: "row" }>> = {}): RowView => ({
  kind: "row",
  state: "accepted",
  cancelRequested: false,
  graceMs: 500,
  byAgent: false,
  homeNo: 1,
  out: 0,
  err: 0,
  ...change,
});

export class Scene {
  static readonly record: ResultRecord = {
    outcome: "succeeded",
    reason: "",
    exitCode: 0,
    signal: null,
    startedAtMs: 1,
    finishedAtMs: 2,
    durationMs: 1,
    out: { length: 0, sha256: "0".repeat(64) },
    err: { length: 0, sha256: "0".repeat(64) },
  };
  readonly journalId = journalId;
  state: CourierState = initialCourier;

  apply(event: CourierEvent, atMs = 0): readonly CourierEffect[] {
    const step = stepCourier(this.state, event, atMs);
    this.state = step.state;
    return step.effects;
  }

  frame(message: FromAgent): readonly CourierEffect[] {
    return this.apply({ kind: "frame", message });
  }
}

/** An open session, with credit if given. */
export function scene(credit: { readonly work?: number; readonly system?: number } = {}): Scene {
  const made = new Scene();
  made.frame(hello());
  made.apply({ kind: "greeted", outcome: { kind: "admitted" } });
  made.apply({ kind: "reconciled", rows: [], welcome });
  if (credit.work !== undefined || credit.system !== undefined)
    made.frame({ type: "ready", work: credit.work ?? 0, system: credit.system ?? 0 });
  return made;
}
