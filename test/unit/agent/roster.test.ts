// The agent's pure core: offers, credit, homes, resends and cancels, without clock, disk or network.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { beforeEach, describe, expect, test } from "vitest";
import type { Refusal } from "../../../agent/journal-record.ts";
import { Roster } from "../../../agent/roster.ts";
import type { RosterEffect, RosterEvent, RosterItem } from "../../../agent/roster-event.ts";
import { defaultRosterOptions } from "../../../agent/roster-event.ts";
import type { AttemptId } from "../../../shared/ids.ts";
import { attemptIdSchema, journalIdSchema, nodeIdSchema, taskIdSchema } from "../../../shared/ids.ts";
import { taskSpecSchema } from "../../../shared/task.ts";
import type { OfferItem } from "../../../shared/wire/offer.ts";
import { sha256Hex } from "../../../shared/thumbprint.ts";

const uuid = (no: number): string => `00000000-0000-7000-8000-${String(no).padStart(12, "0")}`;
const id = (no: number): AttemptId => attemptIdSchema.parse(uuid(no));
const journalId = journalIdSchema.parse(uuid(999));
const empty = { length: 0, sha256: sha256Hex("") };

let roster: Roster;
let nowMs: number;
let closed: Map<AttemptId, Refusal | undefined>;

beforeEach(() => {
  nowMs = 0;
  closed = new Map();
  roster = new Roster({ closed }, { ...defaultRosterOptions, journalId, hostBootId: "boot" });
});

function step(event: RosterEvent): RosterEffect[] {
  const effects = roster.step(event, { monotonicMs: nowMs, wallMs: 1_000 });
  // The journal's part: what is noted as closed is in its map.
  for (const effect of effects)
    if (effect.kind === "note" && effect.record.kind === "closed")
      for (const attempt of effect.record.attempts) closed.set(attempt, undefined);
  return effects;
}

const open = (session: number): RosterEffect[] =>
  step({ kind: "session-opened", session, node: nodeIdSchema.parse(uuid(500 + session)), verdicts: [] });
const sent = (effects: readonly RosterEffect[], session?: number): RosterItem[] =>
  effects.flatMap((effect) =>
    effect.kind === "send" && (session === undefined || effect.session === session) ? [effect.message] : [],
  );
const acts = (effects: readonly RosterEffect[]): string[] =>
  effects.flatMap((effect) => (effect.kind === "attempt" ? [effect.effect.kind] : []));
const ready = (effects: readonly RosterEffect[]): Record<number, number> =>
  Object.fromEntries(effects.flatMap((effect) => (effect.kind === "ready" ? [[effect.session, effect.work]] : [])));

const offerOf = (no: number): OfferItem => ({
  attempt: id(no),
  task: taskIdSchema.parse(uuid(700 + no)),
  attemptNumber: 1,
  offerNo: 1,
  journalId,
  lane: "work",
  startWindowMs: 3_000,
  spec: taskSpecSchema.parse({ kind: "script", script: "true" }),
});

function offer(
  session: number,
  no: number,
  more: { spec?: object; journal?: string; lane?: "work" | "system" } = {},
): RosterEffect[] {
  const item = {
    attempt: id(no),
    task: taskIdSchema.parse(uuid(700 + no)),
    attemptNumber: 1,
    offerNo: 1,
    journalId: journalIdSchema.parse(more.journal ?? journalId),
    lane: more.lane ?? ("work" as const),
    startWindowMs: 3_000,
    spec: taskSpecSchema.parse(more.spec ?? { kind: "script", script: "true" }),
  };
  return step({ kind: "offers", session, offers: [{ offer: item, admission: { kind: "ok" } }] });
}

const durable = (no: number, mark: "intent" | "starting" | "cancelling" | "result"): RosterEffect[] =>
  step({ kind: "attempt", attempt: id(no), event: { kind: "durable", mark } });

/** Brings attempt `no` to a durable result; what it took to get there is not this helper's concern. */
function finish(no: number, length = 0): RosterEffect[] {
  const post = (event: Extract<RosterEvent, { kind: "attempt" }>["event"]): RosterEffect[] =>
    step({ kind: "attempt", attempt: id(no), event });
  post({ kind: "started", startedAtMs: 5 });
  post({ kind: "exited", exit: { exitCode: 0, signal: null } });
  post({ kind: "killed", exit: undefined, left: [] });
  const out = { length, sha256: sha256Hex("x") };
  post({
    kind: "measured",
    output: "complete",
    memory: "kept",
    measurement: { out, err: empty, startedAtMs: 5, finishedAtMs: 6, durationMs: 1 },
  });
  return durable(no, "result");
}

describe("an offer", () => {
  test("is accepted only when its intent is durable, and spawned then", () => {
    open(1);
    const begun = offer(1, 1);
    expect(acts(begun)).toEqual(["append", "prepare"]);
    expect(sent(begun)).toEqual([]);
    const done = durable(1, "intent");
    expect(acts(done)).toEqual(["spawn"]);
    expect(sent(done)).toEqual([{ type: "accept", item: { attempt: id(1), offerNo: 1, homeNo: 1 } }]);
  });

  test("for another journal is refused for later", () => {
    open(1);
    expect(sent(offer(1, 1, { journal: uuid(1) }))[0]).toMatchObject({
      type: "refuse",
      item: { class: "later", reason: "other-journal" },
    });
  });

  test("refused for good is refused again whatever is asked, and not before its tombstone is durable", () => {
    open(1);
    open(2);
    const refusal = { reason: "interpreter-missing", detail: "pwsh" } as const;
    const offered = (session: number): RosterEffect[] =>
      step({
        kind: "offers",
        session,
        offers: [{ offer: offerOf(1), admission: { kind: "never", refusal } }],
      });
    const [append] = offered(1).filter((effect) => effect.kind === "append-refusal");
    // The journal's map is ahead of its disk.
    closed.set(id(1), refusal);
    expect(sent(offered(2))).toEqual([]);
    expect(sent(step({ kind: "cancels", session: 2, items: [{ attempt: id(1), graceMs: 5 }] }))).toEqual([]);
    if (append?.kind !== "append-refusal") throw new Error("the refusal is appended");
    // Both who asked hear it: the first session may have ended meanwhile.
    const durably = step({ kind: "refusal-durable", session: 1, item: append.item });
    for (const session of [1, 2])
      expect(sent(durably, session)).toMatchObject([
        { type: "refuse", item: { class: "never", reason: refusal.reason } },
      ]);
    for (const ask of [
      () => offered(2),
      () => step({ kind: "cancels", session: 2, items: [{ attempt: id(1), graceMs: 5 }] }),
      () => step({ kind: "inquiries", session: 2, attempts: [id(1)] }),
    ])
      expect(sent(ask(), 2)).toMatchObject([{ type: "refuse", item: { attempt: id(1), class: "never", ...refusal } }]);
  });

  test("of a known attempt starts nothing and is answered by its state", () => {
    open(1);
    open(2);
    offer(1, 1);
    durable(1, "intent");
    const again = offer(2, 1);
    expect(acts(again)).toEqual([]);
    expect(sent(again, 2)).toEqual([
      { type: "state", item: { attempt: id(1), state: "running", homeNo: 1, homeHere: false } },
    ]);
  });

  test("of an attempt whose intent is not durable yet is not answered before it is", () => {
    open(1);
    open(2);
    offer(1, 1);
    expect(sent(offer(2, 1))).toEqual([]);
    expect(roster.reports()).toEqual([]);
  });

  test("of a closed attempt is answered collected", () => {
    open(1);
    closed.set(id(1), undefined);
    expect(sent(offer(1, 1))).toEqual([
      { type: "state", item: { attempt: id(1), state: "collected", homeNo: 0, homeHere: false } },
    ]);
  });

  test("beyond slots and waiting places is refused busy", () => {
    open(1);
    for (let no = 1; no <= 110; no += 1) offer(1, no);
    expect(sent(offer(1, 111))[0]).toMatchObject({ item: { class: "later", reason: "busy" } });
  });

  test("to a draining agent is refused stopping", () => {
    open(1);
    step({ kind: "drain" });
    expect(sent(offer(1, 1))[0]).toMatchObject({ item: { class: "later", reason: "stopping" } });
  });

  test("of a no-op takes one round to the disk for intent and result", () => {
    open(1);
    expect(acts(offer(1, 1, { spec: { kind: "no-op" } }))).toEqual(["append", "append"]);
    const accepted = durable(1, "intent");
    expect(sent(accepted)).toEqual([{ type: "accept", item: { attempt: id(1), offerNo: 1, homeNo: 1 } }]);
    expect(sent(durable(1, "result"))[0]).toMatchObject({ type: "result", item: { record: { outcome: "succeeded" } } });
  });
});

describe("credit", () => {
  test("is shared by the sessions and cumulative", () => {
    expect(ready(open(1))).toEqual({ 1: 10 });
    expect(ready(open(2))).toEqual({ 2: 5 });
    // Two of ten are used: four for each session, and session 1 still has eight outstanding.
    offer(1, 1);
    expect(ready(offer(2, 2))).toEqual({});
    durable(1, "intent");
    durable(2, "intent");
    expect(ready(finish(2))).toEqual({});
  });

  test("is nothing while no slot is free and comes back with one", () => {
    open(1);
    for (let no = 1; no <= 10; no += 1) {
      offer(1, no);
      durable(no, "intent");
    }
    expect(ready(open(2))).toEqual({ 2: 0 } satisfies Record<number, number>);
    expect(ready(finish(1))).toEqual({ 1: 11, 2: 1 });
  });
});

describe("a home", () => {
  test("moves to another session at once, with a greater number", () => {
    open(1);
    open(2);
    offer(1, 1);
    durable(1, "intent");
    const moved = step({ kind: "session-ended", session: 1 });
    expect(sent(moved, 2)).toEqual([{ type: "resume", item: { attempt: id(1), homeNo: 2 } }]);
    expect(moved).toContainEqual({ kind: "attach-log", attempt: id(1), session: 2, homeNo: 2, from: "node" });
  });

  test("waits for the next session when there is none", () => {
    open(1);
    offer(1, 1);
    durable(1, "intent");
    expect(sent(step({ kind: "session-ended", session: 1 }))).toEqual([]);
    expect(roster.reports()).toEqual([{ attempt: id(1), state: "running", homeNo: 1, homeHere: false }]);
    expect(sent(open(2))).toEqual([{ type: "resume", item: { attempt: id(1), homeNo: 2 } }]);
  });

  test("is not announced before the intent is durable", () => {
    open(1);
    open(2);
    offer(1, 1);
    expect(sent(step({ kind: "session-ended", session: 1 }))).toEqual([]);
    expect(sent(durable(1, "intent"))).toEqual([{ type: "resume", item: { attempt: id(1), homeNo: 2 } }]);
  });

  test("whose number the node surpasses is moved above it", () => {
    open(1);
    offer(1, 1);
    durable(1, "intent");
    expect(sent(step({ kind: "home-superseded", session: 1, attempt: id(1), homeNo: 7 }))).toEqual([
      { type: "resume", item: { attempt: id(1), homeNo: 8 } },
    ]);
  });

  test("leaves a node that goes away only while another stays", () => {
    open(1);
    offer(1, 1);
    durable(1, "intent");
    expect(step({ kind: "go-away", session: 1 })).toEqual([]);
    const next = open(2);
    expect(sent(next, 2)).toContainEqual({ type: "resume", item: { attempt: id(1), homeNo: 2 } });
    expect(next).toContainEqual({ kind: "close-session", session: 1 });
  });
});

describe("a result", () => {
  beforeEach(() => {
    open(1);
    offer(1, 1);
    durable(1, "intent");
  });

  test("is sent when it is durable and the log is through", () => {
    expect(sent(finish(1, 5))).toEqual([]);
    expect(sent(step({ kind: "log-drained", attempt: id(1), homeNo: 1 }))[0]).toMatchObject({
      type: "result",
      item: { homeNo: 1 },
    });
  });

  test("without acknowledgement goes through another node, later and later", () => {
    open(2);
    finish(1);
    nowMs = 1_999;
    expect(sent(step({ kind: "tick" }))).toEqual([]);
    nowMs = 2_000;
    expect(sent(step({ kind: "tick" }), 2)).toMatchObject([
      { type: "resume" },
      { type: "result", item: { homeNo: 2 } },
    ]);
    nowMs = 5_999;
    expect(sent(step({ kind: "tick" }))).toEqual([]);
    nowMs = 6_000;
    expect(sent(step({ kind: "tick" }), 1)).toMatchObject([
      { type: "resume" },
      { type: "result", item: { homeNo: 3 } },
    ]);
  });

  test("waits four round trips on a slow line", () => {
    step({ kind: "round-trip", session: 1, roundTripMs: 2_000 });
    finish(1);
    nowMs = 7_999;
    expect(sent(step({ kind: "tick" }))).toEqual([]);
    nowMs = 8_000;
    expect(sent(step({ kind: "tick" }))).toHaveLength(1);
  });

  test("is kept for ten minutes after its acknowledgement, sent again on inquiry, then closed", () => {
    finish(1);
    step({ kind: "result-ack", attempt: id(1), verdict: "acknowledged" });
    expect(roster.reports()).toEqual([]);
    const asked = step({ kind: "inquiries", session: 1, attempts: [id(1), id(2)] });
    expect(sent(asked)).toMatchObject([
      { type: "resume" },
      { type: "result" },
      { type: "state", item: { attempt: id(2), state: "unknown" } },
    ]);
    step({ kind: "result-ack", attempt: id(1), verdict: "acknowledged" });
    nowMs = 600_000;
    expect(step({ kind: "tick" })).toContainEqual({ kind: "forget", attempt: id(1) });
    expect(sent(step({ kind: "inquiries", session: 1, attempts: [id(1)] }))).toMatchObject([
      { type: "state", item: { state: "collected" } },
    ]);
  });

  test("that is acknowledged lets go of the script, which may be large", async () => {
    setFlagsFromString("--expose-gc");
    const collect: () => void = runInNewContext("gc");
    // Made and offered in a call of its own, so that nothing here holds it.
    const begin = (): WeakRef<object> => {
      const spec = { kind: "script" as const, script: "#".repeat(500_000) };
      const item = {
        attempt: id(2),
        task: taskIdSchema.parse(uuid(702)),
        attemptNumber: 1,
        offerNo: 1,
        journalId,
        lane: "work" as const,
        startWindowMs: 3_000,
        spec: { ...spec, interpreter: "sh", args: [], env: {}, timeoutMs: 1_000, graceMs: 0 },
      };
      step({ kind: "offers", session: 1, offers: [{ offer: item, admission: { kind: "ok" } }] });
      return new WeakRef(item.spec);
    };
    const held = begin();
    durable(2, "intent");
    finish(2, 5);
    step({ kind: "log-drained", attempt: id(2), homeNo: 1 });
    step({ kind: "result-ack", attempt: id(2), verdict: "acknowledged" });
    // A WeakRef is held until the turn in which it was made is over.
    await new Promise((resolve) => setImmediate(resolve));
    collect();
    expect(held.deref()).toBeUndefined();
    const asked = step({ kind: "inquiries", session: 1, attempts: [id(2)] });
    expect(asked).toContainEqual(expect.objectContaining({ kind: "attach-log", attempt: id(2) }));
  });

  test("of an unknown row is kept and asked about rarely", () => {
    finish(1);
    step({ kind: "result-ack", attempt: id(1), verdict: "unknown" });
    nowMs = 599_999;
    expect(sent(step({ kind: "tick" }))).toEqual([]);
    nowMs = 600_000;
    expect(sent(step({ kind: "tick" }))).toHaveLength(1);
  });
});

describe("a cancel", () => {
  const cancel = (no: number): RosterEffect[] =>
    step({ kind: "cancels", session: 1, items: [{ attempt: id(no), graceMs: 100 }] });

  test("of a running attempt is recorded before it acts", () => {
    open(1);
    offer(1, 1);
    durable(1, "intent");
    step({ kind: "attempt", attempt: id(1), event: { kind: "started", startedAtMs: 1 } });
    expect(acts(cancel(1))).toEqual(["append"]);
    expect(acts(cancel(1))).toEqual([]);
    expect(acts(durable(1, "cancelling"))).toEqual(["kill"]);
  });

  test("leaves an exit that was there first standing", () => {
    open(1);
    offer(1, 1);
    durable(1, "intent");
    step({ kind: "attempt", attempt: id(1), event: { kind: "started", startedAtMs: 1 } });
    cancel(1);
    step({ kind: "attempt", attempt: id(1), event: { kind: "exited", exit: { exitCode: 0, signal: null } } });
    durable(1, "cancelling");
    step({ kind: "attempt", attempt: id(1), event: { kind: "killed", exit: undefined, left: [] } });
    step({
      kind: "attempt",
      attempt: id(1),
      event: {
        kind: "measured",
        output: "complete",
        memory: "kept",
        measurement: { out: empty, err: empty, startedAtMs: 1, finishedAtMs: 2, durationMs: 1 },
      },
    });
    expect(sent(durable(1, "result"))[0]).toMatchObject({ item: { record: { outcome: "succeeded" } } });
  });

  test("of a finished attempt is answered by the result on its way; repeated every 2 s it begins no log anew", () => {
    open(1);
    offer(1, 1);
    durable(1, "intent");
    finish(1, 100);
    expect([cancel(1), cancel(1)]).toEqual([[], []]);
    step({ kind: "result-ack", attempt: id(1), verdict: "acknowledged" });
    // The node that asks lacks what was acknowledged.
    expect(cancel(1)).toContainEqual(expect.objectContaining({ kind: "attach-log", from: "node" }));
  });

  test("before the marker is seen asks the gate", () => {
    open(1);
    offer(1, 1);
    durable(1, "intent");
    expect(acts(cancel(1))).toEqual(["declare-never"]);
    expect(acts(step({ kind: "attempt", attempt: id(1), event: { kind: "gate", winner: "shim" } }))).toEqual([
      "append",
    ]);
    expect(acts(durable(1, "cancelling"))).toEqual(["kill"]);
  });

  test("that wins the gate ends it as never started", () => {
    open(1);
    offer(1, 1);
    durable(1, "intent");
    cancel(1);
    step({ kind: "attempt", attempt: id(1), event: { kind: "gate", winner: "us" } });
    expect(sent(durable(1, "result"))[0]).toMatchObject({
      item: { record: { outcome: "cancelled", startedAtMs: null } },
    });
  });

  test("of an unknown attempt leaves a tombstone that a later offer finds", () => {
    open(1);
    expect(acts(cancel(1))).toEqual(["append"]);
    expect(sent(offer(1, 1))).toEqual([]);
    expect(sent(durable(1, "result"))[0]).toMatchObject({ type: "result", item: { record: { outcome: "cancelled" } } });
    expect(acts(offer(1, 1))).toEqual([]);
  });
});
