// What the core of one attempt makes of events that come in an unlucky order, and of what a torn journal left behind.
import { beforeEach, describe, expect, test } from "vitest";
import type { AttemptEffect, AttemptEvent, AttemptState } from "../../../agent/attempt.ts";
import { beginAttempt, resumeAttempt, stepAttempt } from "../../../agent/attempt.ts";
import { recover } from "../../../agent/recovery.ts";
import { Roster } from "../../../agent/roster.ts";
import { defaultRosterOptions } from "../../../agent/roster-event.ts";
import { attemptIdSchema, journalIdSchema, nodeIdSchema, taskIdSchema } from "../../../shared/ids.ts";
import { taskSpecSchema } from "../../../shared/task.ts";
import { sha256Hex } from "../../../shared/thumbprint.ts";

const attempt = attemptIdSchema.parse("00000000-0000-7000-8000-000000000001");
const task = taskIdSchema.parse("00000000-0000-7000-8000-000000000002");
const facts = (spec: object) => ({
  attempt,
  task,
  attemptNumber: 1,
  offerNo: 1,
  lane: "work" as const,
  spec: taskSpecSchema.parse(spec),
});
const context = { facts: facts({ kind: "script", script: "true" }), hostBootId: "boot", wallMs: 1_000 };
const empty = { length: 0, sha256: sha256Hex("") };
const ended: AttemptEvent = { kind: "exited", exit: { exitCode: 0, signal: null } };
const killed: AttemptEvent = { kind: "killed", exit: undefined, left: [] };
const measured: AttemptEvent = {
  kind: "measured",
  output: "complete",
  memory: "kept",
  measurement: { out: empty, err: empty, startedAtMs: 1, finishedAtMs: 2, durationMs: 1 },
};

let state: AttemptState;
let effects: readonly AttemptEffect[];

function post(...events: AttemptEvent[]): string[] {
  for (const event of events) ({ state, effects } = stepAttempt(state, event, context));
  return effects.map(({ kind }) => kind);
}

const result = (): unknown => effects.find((effect) => effect.kind === "append")?.record;

beforeEach(() => {
  ({ state, effects } = beginAttempt(context, { slot: "held" }));
  post({ kind: "durable", mark: "intent" });
});

describe("a kill of the kernel's for want of memory", () => {
  const exceeded: AttemptEvent = { ...measured, memory: "exceeded" };
  const bySignal = { exitCode: null, signal: "SIGKILL" };

  test.each([
    ["is why a script failed", { exitCode: null, signal: "SIGKILL" }, "failed", "oom-killed"],
    ["is why, when the script said so by a code of its own", { exitCode: 137, signal: null }, "failed", "oom-killed"],
    ["says nothing of a script that succeeded all the same", { exitCode: 0, signal: null }, "succeeded", ""],
  ])("%s", (_name, exit, outcome, reason) => {
    post({ kind: "started", startedAtMs: 5 }, { kind: "exited", exit }, killed, exceeded);
    expect(result()).toMatchObject({ record: { outcome, reason, ...exit } });
  });

  test("is not why a cancelled one ended", () => {
    post({ kind: "started", startedAtMs: 5 }, { kind: "cancel", graceMs: 0 }, { kind: "durable", mark: "cancelling" });
    post({ kind: "killed", exit: bySignal, left: [] }, exceeded);
    expect(result()).toMatchObject({ record: { outcome: "cancelled", reason: "cancel" } });
  });

  test("is told beside output that was lost", () => {
    post({ kind: "started", startedAtMs: 5 }, { kind: "exited", exit: bySignal }, killed);
    post({ ...measured, memory: "exceeded", output: "lost" } as AttemptEvent);
    expect(result()).toMatchObject({ record: { outcome: "failed", reason: "oom-killed; output-lost" } });
  });
});

describe("an exit that was there first stands", () => {
  test("when it is seen while a cancel asks the gate", () => {
    expect(post({ kind: "cancel", graceMs: 0 })).toEqual(["declare-never"]);
    post({ kind: "started", startedAtMs: 5 }, ended);
    expect(post({ kind: "gate", winner: "shim" })).toEqual(["sweep"]);
    post(killed, measured);
    expect(result()).toMatchObject({ kind: "result", record: { outcome: "succeeded", exitCode: 0 } });
  });

  test("when a shim given up as unsigned ran its script after all", () => {
    expect(post({ kind: "vanished", reason: "shim-never-signed" })).toEqual(["sweep"]);
    post({ kind: "killed", exit: { exitCode: 3, signal: null }, left: [] }, measured);
    expect(result()).toMatchObject({ record: { outcome: "failed", reason: "exit-code", exitCode: 3 } });
  });

  test("but the sweep's own signal is told beside the interruption", () => {
    post({ kind: "vanished", reason: "shim-never-signed" });
    post({ kind: "killed", exit: { exitCode: null, signal: "SIGKILL" }, left: [] }, measured);
    expect(result()).toMatchObject({
      record: { outcome: "interrupted", reason: "shim-never-signed", exitCode: null, signal: "SIGKILL" },
    });
  });

  test("when the kill of a cancel finds it", () => {
    post({ kind: "started", startedAtMs: 5 }, { kind: "cancel", graceMs: 0 });
    expect(post({ kind: "durable", mark: "cancelling" })).toEqual(["kill"]);
    post({ kind: "outrun", exit: { exitCode: 0, signal: null }, left: [] }, measured);
    expect(result()).toMatchObject({ record: { outcome: "succeeded", exitCode: 0, reason: "" } });
  });

  test("when the kill of a time-out finds it", () => {
    post({ kind: "started", startedAtMs: 5 });
    expect(post({ kind: "deadline" })).toEqual(["kill"]);
    post({ kind: "outrun", exit: { exitCode: 4, signal: null }, left: [77] }, measured);
    expect(result()).toMatchObject({ record: { outcome: "failed", exitCode: 4, reason: "kill-incomplete: 77" } });
  });

  test("but not one that an earlier agent's kill brought about, which names its reason", () => {
    const bySignal = { exitCode: null, signal: "SIGTERM" };
    post({ kind: "started", startedAtMs: 5 });
    expect(post({ kind: "exited", exit: { ...bySignal, endedFor: "timed-out" } })).toEqual(["sweep"]);
    post({ kind: "killed", exit: { ...bySignal, endedFor: "timed-out" }, left: [] }, measured);
    expect(result()).toMatchObject({ record: { outcome: "timed-out", reason: "time-limit", signal: "SIGTERM" } });
    expect(result()).not.toHaveProperty("record.endedFor");
  });

  test("but not when the kill brought it about", () => {
    post({ kind: "started", startedAtMs: 5 }, { kind: "cancel", graceMs: 0 }, { kind: "durable", mark: "cancelling" });
    post(ended);
    post({ kind: "killed", exit: { exitCode: null, signal: "SIGTERM" }, left: [] }, measured);
    expect(result()).toMatchObject({ record: { outcome: "cancelled", signal: "SIGTERM" } });
  });
});

describe("what is seen of another shim while a failed start asks the gate", () => {
  beforeEach(() => {
    post({ kind: "not-started", detail: "EAGAIN" });
  });

  test("is not lost: a start runs on with its deadline", () => {
    post({ kind: "started", startedAtMs: 5 });
    expect(post({ kind: "gate", winner: "shim" })).toContain("arm-deadline");
    expect(state).toEqual({ kind: "running" });
  });

  test("is not lost: a death ends it", () => {
    post({ kind: "started", startedAtMs: 5 }, { kind: "vanished", reason: "shim-died" });
    expect(post({ kind: "gate", winner: "shim" })).toEqual(["sweep"]);
    post(killed, measured);
    expect(result()).toMatchObject({ record: { outcome: "interrupted", reason: "shim-died" } });
  });

  test("is waited for when there is nothing yet", () => {
    expect(post({ kind: "gate", winner: "shim" })).toEqual(["adopt"]);
    expect(post({ kind: "started", startedAtMs: 5 })).toContain("arm-deadline");
  });
});

describe("a start that failed", () => {
  test("is still a failure for the successor of an agent that died before its result was synced", () => {
    post({ kind: "not-started", detail: "EAGAIN" });
    const declared = effects.find((effect) => effect.kind === "declare-never")?.ending;
    expect(declared).toEqual({ outcome: "failed", reason: "start-failed: EAGAIN" });
    const action = recover({
      journal: "starting",
      hostBoot: "same",
      marker: "never",
      declared,
      shim: "dead",
      exit: undefined,
    });
    if (action.kind !== "never-started") throw new Error(action.kind);
    ({ state, effects } = resumeAttempt(action, 0));
    post({ kind: "gate", winner: "us" });
    expect(result()).toMatchObject({ record: { outcome: "failed", reason: "start-failed: EAGAIN" } });
  });
});

describe("a no-op whose result was torn off the journal", () => {
  test.each(["same", "other"] as const)("is concluded at once on the %s boot", (hostBoot) => {
    const journalId = journalIdSchema.parse("00000000-0000-7000-8000-000000000009");
    const roster = new Roster({ closed: new Map() }, { ...defaultRosterOptions, journalId, hostBootId: "boot" });
    const action = recover({ journal: "starting", hostBoot, marker: "none", shim: "dead", exit: undefined });
    if (action.kind === "orphan" || action.kind === "ignore") throw new Error(action.kind);
    const begun = roster.restore(facts({ kind: "no-op" }), action, {
      homeNo: 1,
      graceMs: 0,
      wallMs: 1_000,
      monotonicMs: 0,
    });
    expect(begun).toMatchObject([
      { kind: "attempt", effect: { kind: "append", mark: "result", record: { record: { outcome: "succeeded" } } } },
    ]);
    expect(roster.size.running).toBe(0);
    const now = { monotonicMs: 0, wallMs: 1_000 };
    const node = nodeIdSchema.parse("00000000-0000-7000-8000-000000000008");
    roster.step({ kind: "session-opened", session: 1, node, verdicts: [] }, now);
    const done = roster.step({ kind: "attempt", attempt, event: { kind: "durable", mark: "result" } }, now);
    expect(done).toContainEqual(
      expect.objectContaining({ kind: "send", message: expect.objectContaining({ type: "result" }) }),
    );
  });
});
