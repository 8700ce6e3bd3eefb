// The courier of one session, event by event: greeting, credit, offers and answers, what a session's end means. Names
// in brackets are the pairs of concurrent events of RELIABILITY 3.9 that a node decides.
import { describe, expect, it } from "vitest";
import { claimable, initialCourier, loadOf, stepCourier } from "../../../server/tasks/courier.ts";
import { mostOfferedBytes } from "../../../server/tasks/courier-unanswered.ts";
import type { CourierEffect, CourierEvent, CourierState } from "../../../server/tasks/courier-state.ts";
import type { OpenAttempt } from "../../../server/store/read-open-attempts.ts";
import { closeCode } from "../../../shared/wire/close-code.ts";
import type { Hello } from "../../../shared/wire/hello.ts";
import { attempt, claimed, hello, openRow, reportOf, scene, Scene, uuid, view, welcome } from "./scene.ts";
import { journalIdSchema } from "../../../shared/ids.ts";

const kinds = (effects: readonly CourierEffect[]) => effects.map(({ kind }) => kind);
const closes = (effects: readonly CourierEffect[]) =>
  effects.flatMap((effect) => (effect.kind === "close" ? [effect.code] : []));
const greeted = (outcome: Extract<CourierEvent, { kind: "greeted" }>["outcome"]) => {
  const judging = stepCourier(initialCourier, { kind: "frame", message: hello() }, 0).state;
  return stepCourier(judging, { kind: "greeted", outcome }, 0);
};
const open = (rows: readonly OpenAttempt[], change: Partial<Hello> = {}) => {
  const judging = stepCourier(initialCourier, { kind: "frame", message: hello(change) }, 0).state;
  const reconciling = stepCourier(judging, { kind: "greeted", outcome: { kind: "admitted" } }, 0).state;
  return stepCourier(reconciling, { kind: "reconciled", rows, welcome }, 0);
};

describe("rows read again after a failover", () => {
  it("are asked about when the agent had accepted them, and only those of its journal", () => {
    const { state } = open([]);
    const rows = [
      openRow({ attempt: attempt(1) }),
      openRow({ attempt: attempt(2), state: "running", rank: 3 }),
      openRow({ attempt: attempt(3), state: "offered", rank: 1 }),
      openRow({ attempt: attempt(4), journalId: journalIdSchema.parse(uuid(77)) }),
    ];
    expect(stepCourier(state, { kind: "reread", rows }, 0).effects).toEqual([
      { kind: "send", message: { type: "inquire", items: [attempt(1), attempt(2)] } },
    ]);
  });

  it("ask nothing of a session that has not greeted yet", () => {
    expect(stepCourier(initialCourier, { kind: "reread", rows: [openRow()] }, 0).effects).toEqual([]);
  });
});

describe("slots that people set", () => {
  it.each([
    ["is told at once", ["slots"], [{ kind: "send", message: { type: "settings", slots: 3 } }]],
    ["of before is not, for an unknown message ends its session", [], []],
  ])("an agent %s", (_what, capabilities, effects) => {
    const { state } = open([], { capabilities });
    expect(stepCourier(state, { kind: "settings", slots: 3 }, 0).effects).toEqual(effects);
  });
});

describe("the greeting", () => {
  it("judges the hello, then reconciles, then welcomes", () => {
    const first = stepCourier(initialCourier, { kind: "frame", message: hello() }, 0);
    expect(kinds(first.effects)).toEqual(["greet"]);
    const second = stepCourier(first.state, { kind: "greeted", outcome: { kind: "admitted" } }, 0);
    expect(kinds(second.effects)).toEqual(["reconcile"]);
    const third = stepCourier(second.state, { kind: "reconciled", rows: [], welcome }, 0);
    expect(third.effects).toEqual([
      {
        kind: "send",
        message: { type: "welcome", protocol: 1, ...welcome, verdicts: [], slots: null, capabilities: ["progress"] },
      },
      { kind: "opened" },
    ]);
    expect(third.state.kind).toBe("open");
  });

  it("ends with 4005 when the protocols do not meet, before anything is asked of the database", () => {
    const step = stepCourier(initialCourier, { kind: "frame", message: hello({ protocols: { min: 7, max: 9 } }) }, 0);
    expect([kinds(step.effects), closes(step.effects), step.state.kind]).toEqual([
      ["close"],
      [closeCode.unsupported],
      "closed",
    ]);
  });

  it.each([
    [{ kind: "superseded", expected: "boot counter 3 or later" }, closeCode.superseded],
    [{ kind: "quarantined", reason: "clone" }, closeCode.quarantined],
    [{ kind: "revoked", reason: "by hand" }, closeCode.refused],
    [{ kind: "removed", reason: "by hand" }, closeCode.refused],
  ] as const)("ends with the code of the refusal %j", (outcome, code) => {
    const step = greeted(outcome);
    expect([closes(step.effects), step.state.kind]).toEqual([[code], "closed"]);
  });

  it.each(["awaiting-hello", "judging", "reconciling"] as const)(
    "ends with 1002 for any other frame while %s",
    (kind) => {
      const states: Record<string, CourierState> = {
        "awaiting-hello": initialCourier,
        judging: { kind: "judging", hello: hello() },
        reconciling: { kind: "reconciling", hello: hello(), slots: null },
      };
      const step = stepCourier(
        states[kind] ?? initialCourier,
        { kind: "frame", message: { type: "ready", work: 1, system: 1 } },
        0,
      );
      expect([closes(step.effects), step.state.kind]).toEqual([[closeCode.protocolError], "closed"]);
    },
  );

  it("ends a session whose agent greets twice", () => {
    expect(closes(scene().frame(hello()))).toEqual([closeCode.protocolError]);
  });

  it("answers a probe and closes, opening nothing [register/doctor while running]", () => {
    const step = open([openRow({ rank: 2 })], { probe: true });
    expect(kinds(step.effects)).toEqual(["send", "close"]);
    expect([closes(step.effects), step.state.kind]).toEqual([[closeCode.goingAway], "closed"]);
  });

  it("raises what the agent is ahead with, loses what it has forgotten, cancels and asks", () => {
    const rows = [
      openRow({ attempt: attempt(1), rank: 1, state: "offered" }),
      openRow({ attempt: attempt(2), rank: 2 }),
      openRow({ attempt: attempt(3), rank: 2 }),
      openRow({ attempt: attempt(4), rank: 3, state: "running", cancelRequested: true }),
    ];
    const listed = [reportOf(1, "running", 2), reportOf(2, "collected"), reportOf(4, "running")];
    const { effects } = open(rows, { attempts: listed });
    expect(effects.slice(2)).toEqual([
      { kind: "progress", items: [{ attempt: attempt(1), homeNo: 2, homeHere: false, reached: "running" }] },
      { kind: "lose", attempts: [attempt(2)], answer: "collected" },
      { kind: "send", message: { type: "cancel", items: [{ attempt: attempt(4), graceMs: 500 }] } },
      { kind: "send", message: { type: "inquire", items: [attempt(3)] } },
    ]);
  });

  it("asks about many attempts in messages of at most 64", () => {
    const rows = Array.from({ length: 150 }, (_, index) => openRow({ attempt: attempt(index), rank: 2 }));
    const sizes = open(rows).effects.flatMap((effect) =>
      effect.kind === "send" && effect.message.type === "inquire" ? [effect.message.items.length] : [],
    );
    expect(sizes).toEqual([64, 64, 22]);
  });
});

describe("rows read again after a failover", () => {
  it("are asked about when they stand open under this journal, and cancelled where that was wished", () => {
    const session = scene();
    const rows = [
      openRow({ attempt: attempt(1), rank: 1, state: "offered" }),
      openRow({ attempt: attempt(2), rank: 3, state: "running" }),
      openRow({ attempt: attempt(3), rank: 2, cancelRequested: true }),
      openRow({ attempt: attempt(4), rank: 3, state: "running", journalId: null }),
    ];
    expect(session.apply({ kind: "reread", rows })).toEqual([
      { kind: "send", message: { type: "cancel", items: [{ attempt: attempt(3), graceMs: 500 }] } },
      { kind: "send", message: { type: "inquire", items: [attempt(2), attempt(3)] } },
    ]);
  });

  it("mean nothing to a session that is not open", () => {
    const awaiting = stepCourier(initialCourier, { kind: "reread", rows: [openRow({ rank: 3, state: "running" })] }, 0);
    expect(awaiting.effects).toEqual([]);
  });
});

describe("credit and offers", () => {
  it("is cumulative since the greeting: an offer in flight and a ready in flight do not race", () => {
    const session = scene();
    expect(session.frame({ type: "ready", work: 2, system: 1 })).toEqual([{ kind: "claimable" }]);
    expect([claimable(session.state, "work"), claimable(session.state, "system")]).toEqual([2, 1]);
    session.apply({ kind: "claimed", attempts: [claimed(1), claimed(2)] });
    expect(claimable(session.state, "work")).toBe(0);
    // The agent wrote this before it saw the second offer; the same number grants nothing new.
    session.frame({ type: "ready", work: 2, system: 1 });
    expect(claimable(session.state, "work")).toBe(0);
    session.frame({ type: "ready", work: 3, system: 1 });
    expect([claimable(session.state, "work"), claimable(session.state, "system")]).toEqual([1, 1]);
    // An older ready that arrives late takes nothing back.
    session.frame({ type: "ready", work: 1, system: 0 });
    expect([claimable(session.state, "work"), claimable(session.state, "system")]).toEqual([1, 1]);
  });

  it("is bounded by what a session may leave unanswered, whatever the agent grants", () => {
    const session = scene({ work: Number.MAX_SAFE_INTEGER });
    expect(claimable(session.state, "work")).toBe(192);
    session.apply({ kind: "claimed", attempts: Array.from({ length: 192 }, (_, no) => claimed(no)) });
    expect(claimable(session.state, "work")).toBe(0);
    session.frame({ type: "accept", items: [{ attempt: attempt(1), offerNo: 1, homeNo: 1 }] });
    expect(claimable(session.state, "work")).toBe(1);
    session.apply({ kind: "settings", slots: 1_000 });
    expect(claimable(session.state, "work")).toBe(937);
  });

  describe("of many bytes", () => {
    const large = (number: number, bytes = mostOfferedBytes / 8, offerNo = 1) => {
      const spec = { kind: "script", interpreter: "sh", script: "", args: [], env: {}, graceMs: 0 };
      const script = "x".repeat(bytes - JSON.stringify(spec).length);
      return claimed(number, { spec: JSON.stringify({ ...spec, script }), offerNo });
    };
    const seven = Array.from({ length: 7 }, (_, index) => large(1 + index));
    const item = (number: number) => ({ attempt: attempt(number), offerNo: 1, homeNo: 1 });
    const answers: readonly [string, (session: Scene) => readonly CourierEffect[]][] = [
      ["accept", (session) => session.frame({ type: "accept", items: [item(1)] })],
      [
        "refusal",
        (session) => session.frame({ type: "refuse", items: [{ ...item(1), class: "later", reason: "busy" }] }),
      ],
      ["result", (session) => session.frame({ type: "result", items: [{ ...item(1), record: Scene.record }] })],
      ["state", (session) => session.frame({ type: "state", items: [reportOf(1, "running")] })],
    ];

    it.each(answers)("are followed by no more until one has its answer, here by %s", (_what, answer) => {
      const session = scene({ work: 99, system: 99 });
      session.apply({ kind: "claimed", attempts: seven });
      expect(claimable(session.state, "work")).toBe(92);
      session.apply({ kind: "claimed", attempts: [large(8)] });
      expect([claimable(session.state, "work"), claimable(session.state, "system")]).toEqual([0, 0]);
      expect(kinds(answer(session))).toContain("claimable");
      expect(claimable(session.state, "work")).toBe(91);
      // The next answer says nothing new: only what was held back is told of.
      expect(kinds(session.frame({ type: "accept", items: [item(2)] }))).toEqual(["progress"]);
    });

    it("count once when they are made again", () => {
      const session = scene({ work: 99 });
      session.apply({ kind: "claimed", attempts: seven });
      session.apply({ kind: "claimed", attempts: [large(1, mostOfferedBytes / 8, 2)] });
      expect(claimable(session.state, "work")).toBe(91);
      session.frame({ type: "accept", items: [item(1)] });
      session.apply({ kind: "claimed", attempts: [large(8)] });
      expect(claimable(session.state, "work")).toBe(90);
    });

    it("no longer count when they are the database's again", () => {
      const session = scene({ work: 99 });
      session.apply({ kind: "claimed", attempts: [...seven, large(8)] });
      session.apply({ kind: "tick" }, 3_000);
      session.apply({ kind: "alive" }, 3_500);
      expect(claimable(session.state, "work")).toBe(91);
    });

    it("say how many with the message that carries them", () => {
      const session = scene({ work: 99 });
      const effects = session.apply({ kind: "claimed", attempts: seven });
      const bytes = effects.map((effect) => (effect.kind === "send" ? effect.bytes : undefined));
      expect(bytes).toEqual(seven.map(({ spec }) => spec.length));
    });
  });

  it("a refusal frees no credit by itself [refuse(busy) and claim]", () => {
    const session = scene({ work: 1 });
    session.apply({ kind: "claimed", attempts: [claimed(1)] });
    const refusal = { attempt: attempt(1), offerNo: 1, class: "later" as const, reason: "busy" as const };
    expect(session.frame({ type: "refuse", items: [refusal] })).toEqual([{ kind: "refuse", items: [refusal] }]);
    expect(claimable(session.state, "work")).toBe(0);
  });

  it("carries the offer number of each offer, so that a late refusal names the one it answers", () => {
    const session = scene({ work: 9 });
    const [effect] = session.apply({ kind: "claimed", attempts: [claimed(1, { offerNo: 4 })] });
    expect(effect).toMatchObject({
      kind: "send",
      message: {
        type: "offer",
        items: [{ attempt: attempt(1), offerNo: 4, journalId: session.journalId, startWindowMs: 60_000 }],
      },
    });
  });

  it("releases what was claimed for a journal that another one replaced meanwhile, and offers the rest [journal in frame]", () => {
    const session = scene({ work: 9 });
    const other = journalIdSchema.parse(uuid(990));
    const effects = session.apply({
      kind: "claimed",
      attempts: [claimed(1, { journalId: other }), claimed(2, { journalId: session.journalId })],
    });
    expect(effects).toMatchObject([
      { kind: "send", message: { items: [{ attempt: attempt(2) }] } },
      { kind: "release", offers: [{ attempt: attempt(1), offerNo: 1 }] },
    ]);
    expect(claimable(session.state, "work")).toBe(8);
  });

  it("releases what is claimed after the session closed [claim, session closes before send]", () => {
    const session = scene({ work: 9 });
    session.apply({ kind: "closed" });
    expect(session.apply({ kind: "claimed", attempts: [claimed(1)] })).toEqual([
      { kind: "release", offers: [{ attempt: attempt(1), offerNo: 1 }] },
    ]);
  });

  it("releases unanswered offers when the session ends, not the answered ones", () => {
    const session = scene({ work: 9 });
    session.apply({ kind: "claimed", attempts: [claimed(1), claimed(2), claimed(3), claimed(4), claimed(5)] });
    session.frame({ type: "accept", items: [{ attempt: attempt(1), offerNo: 1, homeNo: 1 }] });
    session.frame({ type: "refuse", items: [{ attempt: attempt(2), offerNo: 1, class: "never", reason: "policy" }] });
    session.frame({ type: "state", items: [reportOf(3, "running")] });
    session.frame({ type: "result", items: [{ attempt: attempt(4), homeNo: 1, record: Scene.record }] });
    expect(session.apply({ kind: "closed" })).toEqual([
      { kind: "release", offers: [{ attempt: attempt(5), offerNo: 1 }] },
    ]);
  });

  it("becomes suspect and pings when an offer is unanswered for 3 s; any frame restores it", () => {
    const session = scene({ work: 9 });
    session.apply({ kind: "claimed", attempts: [claimed(1)] }, 1_000);
    expect(session.apply({ kind: "tick" }, 3_999)).toEqual([]);
    expect(session.apply({ kind: "tick" }, 4_000)).toEqual([{ kind: "ping" }]);
    expect(claimable(session.state, "work")).toBe(0);
    expect(session.apply({ kind: "tick" }, 5_000)).toEqual([]);
    expect(kinds(session.frame({ type: "accept", items: [{ attempt: attempt(1), offerNo: 1, homeNo: 1 }] }))).toEqual([
      "progress",
      "claimable",
    ]);
    expect(claimable(session.state, "work")).toBe(8);
    expect(session.apply({ kind: "tick" }, 60_000)).toEqual([]);
  });

  it("is trusted again when an idle agent answers the ping, and the offer is the database's to make again", () => {
    const session = scene({ work: 9 });
    session.apply({ kind: "claimed", attempts: [claimed(1)] }, 1_000);
    expect(session.apply({ kind: "alive" }, 2_000)).toEqual([]);
    session.apply({ kind: "tick" }, 4_000);
    expect(session.apply({ kind: "alive" }, 4_050)).toEqual([{ kind: "claimable" }]);
    expect(claimable(session.state, "work")).toBe(8);
    expect(session.apply({ kind: "tick" }, 60_000)).toEqual([]);
  });

  it.each(["same", "unknown"] as const)(
    "does not wait for the answer to an offer that crossed the result's acknowledgement: %s",
    (kind) => {
      const session = scene({ work: 9, system: 1 });
      const spec = { kind: "script", interpreter: "sh", script: "x".repeat(500_000), args: [], env: {}, graceMs: 0 };
      const finish = (no: number) =>
        session.apply({ kind: "finished", attempt: attempt(no), outcome: { kind }, windowBytes: 65_536 }, 1_100);
      const large = Array.from({ length: 9 }, (_, no) => claimed(no, { spec: JSON.stringify(spec) }));
      session.apply({ kind: "claimed", attempts: large }, 1_000);
      expect(claimable(session.state, "work")).toBe(0);
      // Nine are more than an agent may leave unanswered, eight are not.
      expect(kinds(finish(0))).toEqual(["send", "claimable"]);
      for (let no = 1; no < 9; no += 1) expect(kinds(finish(no))).toEqual(["send"]);
      // No byte of them counts any longer.
      const most = [mostOfferedBytes - 1, mostOfferedBytes].map((aside) => claimable(session.state, "system", aside));
      expect(most).toEqual([1, 0]);
      expect(session.apply({ kind: "tick" }, 60_000)).toEqual([]);
      expect(session.apply({ kind: "closed" })).toEqual([]);
    },
  );
});

describe("answers to offers and inquiries", () => {
  it("an accept makes this session the home, with the agent's number", () => {
    const accept = { attempt: attempt(1), offerNo: 1, homeNo: 1 };
    expect(scene().frame({ type: "accept", items: [accept] })).toEqual([
      { kind: "progress", items: [{ attempt: attempt(1), homeNo: 1, homeHere: true, reached: "accepted" }] },
    ]);
  });

  it("a state says whether the home is here, and what the agent holds elsewhere moves nothing here [A and B offer the same attempt]", () => {
    const effects = scene().frame({
      type: "state",
      items: [
        { ...reportOf(1, "running", 3), homeHere: false },
        { ...reportOf(2, "accepted", 1), homeHere: true },
      ],
    });
    expect(effects).toEqual([
      { kind: "progress", items: [{ attempt: attempt(1), homeNo: 3, homeHere: false, reached: "running" }] },
      { kind: "progress", items: [{ attempt: attempt(2), homeNo: 1, homeHere: true, reached: "accepted" }] },
    ]);
  });

  it("what a script says of its progress makes no home, and is the store's to judge", () => {
    const session = scene();
    const items = [{ attempt: attempt(1), homeNo: 2, percent: 40, message: "copying" }];
    expect(session.frame({ type: "progress", items })).toEqual([{ kind: "note-progress", items }]);
    expect(session.state.kind === "open" && session.state.session.homes.size).toBe(0);
  });

  it("only the answers unknown and collected lose an attempt; finished waits for its result", () => {
    const effects = scene().frame({
      type: "state",
      items: [reportOf(1, "unknown"), reportOf(2, "collected"), reportOf(3, "finished")],
    });
    expect(effects).toEqual([
      { kind: "lose", attempts: [attempt(1)], answer: "unknown" },
      { kind: "lose", attempts: [attempt(2)], answer: "collected" },
    ]);
  });

  it("passes an accept of a row that has been cancelled on, and sends the cancel after it [cancel overtakes offer]", () => {
    const session = scene();
    const effects = session.apply({
      kind: "progressed",
      answers: [
        { attempt: attempt(1), view: view({ cancelRequested: true }) },
        { attempt: attempt(2), view: view() },
      ],
    });
    expect(effects).toEqual([
      { kind: "send", message: { type: "cancel", items: [{ attempt: attempt(1), graceMs: 500 }] } },
    ]);
  });

  it("sends no cancel for an attempt that its own result has ended [cancel and exit]", () => {
    expect(
      scene().apply({
        kind: "progressed",
        answers: [
          { attempt: attempt(1), view: view({ cancelRequested: true, byAgent: true }) },
          { attempt: attempt(2), view: { kind: "unknown" } },
        ],
      }),
    ).toEqual([]);
  });

  it("repeats cancels as the node asks, lists and go-aways as they come", () => {
    const session = scene();
    const items = [{ attempt: attempt(1), graceMs: 5 }];
    for (let count = 0; count < 2; count += 1)
      expect(session.apply({ kind: "cancel", items })).toEqual([{ kind: "send", message: { type: "cancel", items } }]);
    const list = { version: 7, want: 0, nodes: [] };
    expect(session.apply({ kind: "nodes", list })).toEqual([{ kind: "send", message: { type: "nodes", ...list } }]);
    expect(session.apply({ kind: "go-away", afterMs: 3, reason: "drain" })).toEqual([
      { kind: "send", message: { type: "go-away", afterMs: 3, reason: "drain" } },
    ]);
  });

  it("passes a renewal on", () => {
    const message = { type: "renew" as const, spki: Buffer.from("k"), proof: Buffer.from("p") };
    expect(scene().frame(message)).toEqual([{ kind: "renew", spki: message.spki, proof: message.proof }]);
  });
});

describe("what a session counts for in its node's load", () => {
  const row = { kind: "row" as const, homeNo: 1, out: 0, err: 0, byAgent: false };
  const resume = (session: Scene, no: number, { final }: { readonly final: boolean }) =>
    session.apply({
      kind: "resumed",
      items: [{ attempt: attempt(no), homeNo: 1 }],
      outcomes: [{ ...row, final }],
      windowBytes: 65_536,
    });

  it("is its unanswered offers and its open attempts: whoever resumes what has ended makes nobody else wait", () => {
    const session = scene({ work: 1 });
    session.apply({ kind: "claimed", attempts: [claimed(1)] });
    resume(session, 2, { final: false });
    for (let no = 3; no < 1_000; no += 1) resume(session, no, { final: true });
    expect(loadOf(session.state)).toBe(2);
    // The database has ended it meanwhile.
    const log = { attempt: attempt(2), homeNo: 1, stream: "out" as const, offset: 0, content: { omitted: 1 } };
    session.frame({ type: "log", ...log });
    const outcome = { kind: "row" as const, homeNo: 1, closed: true, next: { out: 0, err: 0 } };
    session.apply({ kind: "appended", attempt: attempt(2), ends: { out: 1 }, outcome, windowBytes: 65_536 });
    expect(loadOf(session.state)).toBe(1);
    // Neither the end of what had ended already nor that of what was open is counted twice.
    for (const no of [1, 2, 3, 3]) {
      session.apply({ kind: "finished", attempt: attempt(no), outcome: { kind: "late" }, windowBytes: 65_536 });
    }
    expect(loadOf(session.state)).toBe(0);
    resume(session, 2, { final: false });
    resume(session, 2, { final: false });
    expect(loadOf(session.state)).toBe(1);
    session.apply({ kind: "finished", attempt: attempt(2), outcome: { kind: "stored" }, windowBytes: 65_536 });
    expect(loadOf(session.state)).toBe(0);
  });

  it("is no more than one agent can have under way", () => {
    const session = scene();
    for (let no = 0; no < 1_000; no += 1) resume(session, no, { final: false });
    expect(loadOf(session.state)).toBe(192);
  });
});
