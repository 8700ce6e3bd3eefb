// The agent's pure core around locks and slots: what recovery re-takes, when a lock is let go, the wait limit, slots set.
import { beforeEach, describe, expect, test } from "vitest";
import type { AttemptEvent } from "../../../agent/attempt.ts";
import { recover, type Evidence } from "../../../agent/recovery.ts";
import { Roster } from "../../../agent/roster.ts";
import { defaultRosterOptions, type RosterEffect, type RosterEvent } from "../../../agent/roster-event.ts";
import { attemptIdSchema, journalIdSchema, nodeIdSchema, taskIdSchema, type AttemptId } from "../../../shared/ids.ts";
import { taskSpecSchema } from "../../../shared/task.ts";
import { sha256Hex } from "../../../shared/thumbprint.ts";

const uuid = (no: number): string => `00000000-0000-7000-8000-${String(no).padStart(12, "0")}`;
const id = (no: number): AttemptId => attemptIdSchema.parse(uuid(no));
const journalId = journalIdSchema.parse(uuid(999));
const empty = { length: 0, sha256: sha256Hex("") };
const full = { mode: "full" };

let roster: Roster;
let nowMs: number;
beforeEach(() => {
  nowMs = 0;
  roster = new Roster({ closed: new Map() }, { ...defaultRosterOptions, journalId, hostBootId: "boot" });
});

const step = (event: RosterEvent): RosterEffect[] => roster.step(event, { monotonicMs: nowMs, wallMs: 1_000 });
const open = (): RosterEffect[] =>
  step({ kind: "session-opened", session: 1, node: nodeIdSchema.parse(uuid(500)), verdicts: [] });
const tick = (): RosterEffect[] => step({ kind: "tick" });
const post = (no: number, event: AttemptEvent): RosterEffect[] => step({ kind: "attempt", attempt: id(no), event });
const acts = (effects: readonly RosterEffect[], no: number): string[] =>
  effects.flatMap((effect) => (effect.kind === "attempt" && effect.attempt === id(no) ? [effect.effect.kind] : []));

const factsOf = (no: number, isolation?: object) => ({
  attempt: id(no),
  task: taskIdSchema.parse(uuid(700 + no)),
  attemptNumber: 1,
  offerNo: 1,
  lane: "work" as const,
  spec: taskSpecSchema.parse({ kind: "script", script: "true", isolation }),
});
const offer = (no: number, isolation?: object): RosterEffect[] =>
  step({
    kind: "offers",
    session: 1,
    offers: [{ offer: { ...factsOf(no, isolation), journalId, startWindowMs: 3_000 }, admission: { kind: "ok" } }],
  });
/** Offered, its intent durable: it starts or waits. */
const take = (no: number, isolation?: object): RosterEffect[] => [
  ...offer(no, isolation),
  ...post(no, { kind: "durable", mark: "intent" }),
];
const measured: AttemptEvent = {
  kind: "measured",
  output: "complete",
  memory: "kept",
  measurement: { out: empty, err: empty, startedAtMs: 5, finishedAtMs: 6, durationMs: 1 },
};
/** A script that ended by itself; `left` would not die. */
function end(no: number, left: readonly number[] = []): RosterEffect[] {
  post(no, { kind: "started", startedAtMs: 5 });
  post(no, { kind: "exited", exit: { exitCode: 0, signal: null } });
  post(no, { kind: "killed", exit: undefined, left });
  post(no, measured);
  return post(no, { kind: "durable", mark: "result" });
}
const acknowledge = (no: number): RosterEffect[] =>
  step({ kind: "result-ack", attempt: id(no), verdict: "acknowledged" });
const abandon = (no: number): RosterEffect[] =>
  step({ kind: "cancels", session: 1, items: [{ attempt: id(no), graceMs: 5, abandoned: true }] });

const evidence: Evidence = { journal: "starting", hostBoot: "same", marker: "shim", shim: "alive", exit: undefined };
function restore(no: number, found: Partial<Evidence>, isolation?: object): RosterEffect[] {
  const action = recover({ ...evidence, ...found });
  if (action.kind === "orphan" || action.kind === "ignore") throw new Error(action.kind);
  return roster.restore(factsOf(no, isolation), action, { homeNo: 1, graceMs: 5, wallMs: 0, monotonicMs: nowMs });
}

describe("a lock", () => {
  test("is held from before the start until the result after the end of the tree is durable", () => {
    open();
    expect(acts(take(1, full), 1)).toContain("spawn");
    expect(acts(take(2, full), 2)).toEqual(["append", "prepare"]);
    post(1, { kind: "started", startedAtMs: 5 });
    post(1, { kind: "exited", exit: { exitCode: 0, signal: null } });
    expect(acts(tick(), 2)).toEqual([]);
    post(1, { kind: "killed", exit: undefined, left: [] });
    expect(acts(post(1, measured), 2)).toEqual([]);
    expect(acts(post(1, { kind: "durable", mark: "result" }), 2)).toEqual(["append"]);
    expect(acts(post(2, { kind: "durable", mark: "starting" }), 2)).toEqual(["spawn"]);
  });

  test("is kept by what would not die, acknowledged or not, until it is gone", () => {
    open();
    take(1, full);
    take(2, full);
    expect(acts(end(1, [77]), 1)).toEqual(["sweep"]);
    acknowledge(1);
    expect(roster.holds(id(1))).toBe(true);
    expect(acts(post(1, { kind: "killed", exit: undefined, left: [77] }), 1)).toEqual(["sweep"]);
    nowMs += defaultRosterOptions.keepAcknowledgedMs + 1;
    expect(tick().map((effect) => effect.kind)).not.toContain("forget");
    expect(acts(post(1, { kind: "killed", exit: undefined, left: [] }), 2)).toEqual(["append"]);
    expect(tick().map((effect) => effect.kind)).toContain("forget");
  });

  test("is let go when a person abandons what would not die, and it is looked for no more", () => {
    open();
    take(1, full);
    take(2, full);
    end(1, [77]);
    acknowledge(1);
    expect(acts(abandon(1), 2)).toEqual(["append"]);
    expect(acts(post(1, { kind: "killed", exit: undefined, left: [77] }), 1)).toEqual([]);
  });

  test("of an abandoned script is let go after the kill, though something is left", () => {
    open();
    take(1, full);
    take(2, full);
    post(1, { kind: "started", startedAtMs: 5 });
    expect(acts(abandon(1), 2)).toEqual([]);
    post(1, { kind: "durable", mark: "cancelling" });
    post(1, { kind: "killed", exit: undefined, left: [77] });
    post(1, measured);
    const over = post(1, { kind: "durable", mark: "result" });
    expect([acts(over, 1), acts(over, 2)]).toEqual([[], ["append"]]);
  });
});

describe("recovery", () => {
  test.each([
    ["runs", {}],
    ["is about to be signed", { marker: "unclear" }],
    ["may have a shim on its way to the gate", { marker: "none" }],
    ["is being cancelled", { journal: "cancelling" }],
    ["is being cancelled and may still lose the gate", { journal: "cancelling", marker: "none" }],
    ["has ended and may have left children", { exit: { exitCode: 0, signal: null } }],
    ["lost its shim", { shim: "dead" }],
  ] as const)("re-takes the lock of what %s before anything that waits has a turn", (_what, found) => {
    restore(2, { journal: "intent", marker: "none" }, full);
    restore(1, found, full);
    expect(acts(open(), 2)).toEqual([]);
    expect(roster.size).toMatchObject({ running: 1, waiting: 1 });
  });

  test("re-takes the lock of a result that says what would not die, and looks for that", () => {
    const record = { outcome: "timed-out" as const, reason: "kill-incomplete: 77", exitCode: null, signal: "SIGKILL" };
    restore(2, { journal: "intent", marker: "none" }, full);
    roster.restoreResult(id(1), factsOf(1, full), {
      homeNo: 1,
      record: { ...record, startedAtMs: 1, finishedAtMs: 2, durationMs: 1, out: empty, err: empty },
      acknowledgedAtMs: 0,
    });
    const begun = open();
    expect([acts(begun, 1), acts(begun, 2)]).toEqual([["sweep"], []]);
    expect(acts(post(1, { kind: "killed", exit: undefined, left: [] }), 2)).toEqual(["append"]);
  });

  test("lets those that waited go on in their order", () => {
    restore(1, { journal: "intent", marker: "none" });
    restore(2, { journal: "intent", marker: "none" }, full);
    restore(3, { journal: "intent", marker: "none" });
    expect([1, 2, 3].map((no) => acts(tick(), no))).toEqual([[], [], []]);
    const begun = open();
    expect([1, 2, 3].map((no) => acts(begun, no))).toEqual([["append"], [], []]);
  });
});

describe("the wait limit", () => {
  test("ends one that has not had its lock as timed out, the gate won first", () => {
    open();
    take(1, full);
    take(2, { ...full, waitMs: 1_000 });
    nowMs = 999;
    expect(acts(tick(), 2)).toEqual([]);
    nowMs = 1_000;
    expect(tick()).toContainEqual({
      kind: "attempt",
      attempt: id(2),
      effect: { kind: "declare-never", ending: { outcome: "timed-out", reason: "lock-wait" } },
    });
    expect(post(2, { kind: "gate", winner: "us" })).toMatchObject([
      {
        effect: {
          kind: "append",
          record: { record: { outcome: "timed-out", reason: "lock-wait", startedAtMs: null } },
        },
      },
    ]);
    expect(roster.size.waiting).toBe(0);
  });

  test("counts from acceptance and by the monotonic clock, whatever is told of it twice", () => {
    open();
    take(1, full);
    nowMs = 5_000;
    offer(2, { waitMs: 1_000 });
    nowMs = 6_500;
    // Not durable yet: it has to be accepted before it can be told to have ended.
    expect(acts(tick(), 2)).toEqual([]);
    post(2, { kind: "durable", mark: "intent" });
    expect(acts(tick(), 2)).toEqual(["declare-never"]);
    expect(acts(tick(), 2)).toEqual([]);
  });
});

describe("slots", () => {
  const ready = (effects: readonly RosterEffect[]): number[] =>
    effects.flatMap((effect) => (effect.kind === "ready" ? [effect.work] : []));

  test("set to none grant no credit and refuse what is on its way; set again they grant it", () => {
    step({ kind: "slots", slots: 0 });
    expect(ready(open())).toEqual([0]);
    expect(offer(1)).toContainEqual(
      expect.objectContaining({
        message: expect.objectContaining({ item: expect.objectContaining({ reason: "busy" }) }),
      }),
    );
    expect(ready(step({ kind: "slots", slots: 3 }))).toEqual([4]);
  });

  test("fewer than run end nothing, and nil is the agent's own setting", () => {
    open();
    take(1);
    take(2);
    expect(acts(step({ kind: "slots", slots: 1 }), 1)).toEqual([]);
    expect(roster.size.running).toBe(2);
    take(3);
    expect(roster.size.waiting).toBe(1);
    expect(acts(step({ kind: "slots", slots: null }), 3)).toEqual(["append"]);
    expect(roster.workSlots).toBe(10);
  });
});
