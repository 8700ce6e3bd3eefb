// Logs, homes and results of one session: the database's next offset is the truth, memory only saves asking.
import { describe, expect, it } from "vitest";
import type { CourierEffect } from "../../../server/tasks/courier-state.ts";
import type { Log } from "../../../shared/wire/log.ts";
import { attempt, scene, Scene, type Scene as SceneType } from "./scene.ts";

const windowBytes = 100_000;
const log = (offset: number, content = "abc", homeNo = 1): Log => ({
  type: "log",
  attempt: attempt(1),
  stream: "out",
  offset,
  homeNo,
  content: { bytes: Buffer.from(content) },
});
const stored = (session: SceneType, out: number, end: number, change: object = {}) =>
  session.apply({
    kind: "appended",
    attempt: attempt(1),
    ends: { out: end },
    windowBytes,
    outcome: { kind: "row", next: { out, err: 0 }, homeNo: 1, closed: false, ...change },
  });
const messages = (effects: readonly CourierEffect[]) =>
  effects.flatMap((effect) => (effect.kind === "send" ? [effect.message] : []));
const place = { attempt: attempt(1), stream: "out" as const };

describe("log frames", () => {
  it("go to the store in order and are acknowledged with a window when stored", () => {
    const session = scene();
    expect(session.frame(log(0))).toMatchObject([{ kind: "append", offset: 0, homeNo: 1 }]);
    expect(session.frame(log(3))).toMatchObject([{ kind: "append", offset: 3 }]);
    expect(messages(stored(session, 6, 6))).toEqual([{ type: "log-ack", ...place, offset: 6, window: windowBytes }]);
  });

  it("of a stream this session has not placed yet are judged by the database, whatever their offset", () => {
    expect(scene().frame(log(5_000))).toMatchObject([{ kind: "append", offset: 5_000 }]);
  });

  it("that leave a gap are sent back to where the stream stands, once, and dropped until it comes from there", () => {
    const session = scene();
    session.frame(log(0));
    expect(messages(session.frame(log(50)))).toMatchObject([{ type: "resume-from", ...place, offset: 3 }]);
    expect(session.frame(log(53))).toEqual([]);
    expect(session.frame(log(3))).toMatchObject([{ kind: "append", offset: 3 }]);
    expect(session.frame(log(6))).toMatchObject([{ kind: "append", offset: 6 }]);
  });

  it("the database stands elsewhere than the agent: it goes back to that offset", () => {
    const session = scene();
    session.frame(log(10));
    expect(messages(stored(session, 4, 13))).toEqual([
      { type: "resume-from", ...place, offset: 4, window: windowBytes, homeNo: 1 },
    ]);
    expect(session.frame(log(13))).toEqual([]);
    expect(session.frame(log(4))).toMatchObject([{ kind: "append", offset: 4 }]);
  });

  it("of a superseded home are answered with the home that counts [resume commits, then old batch]", () => {
    const session = scene();
    session.frame(log(0));
    expect(messages(stored(session, 0, 3, { homeNo: 4 }))).toMatchObject([
      { type: "resume-from", offset: 0, homeNo: 4 },
    ]);
  });

  it("of an attempt the server has ended are acknowledged, so that the late result can follow", () => {
    const session = scene();
    session.frame(log(0));
    expect(messages(stored(session, 0, 3, { closed: true }))).toEqual([
      { type: "log-ack", ...place, offset: 3, window: windowBytes },
    ]);
  });

  it("of an attempt the database does not know are answered unknown", () => {
    const session = scene();
    session.frame(log(0));
    expect(
      messages(
        session.apply({
          kind: "appended",
          attempt: attempt(1),
          ends: { out: 3 },
          windowBytes,
          outcome: { kind: "unknown" },
        }),
      ),
    ).toEqual([{ type: "result-ack", items: [{ attempt: attempt(1), verdict: "unknown" }] }]);
  });

  it("count omitted bytes as produced", () => {
    const session = scene();
    session.frame({ ...log(0), content: { omitted: 7_000_000_000 } });
    expect(session.frame(log(7_000_000_000))).toMatchObject([{ kind: "append", offset: 7_000_000_000 }]);
  });

  it("of the two streams stand apart", () => {
    const session = scene();
    session.frame(log(0));
    expect(session.frame({ ...log(9), stream: "err" })).toMatchObject([{ kind: "append", stream: "err", offset: 9 }]);
    expect(messages(session.frame(log(50)))).toMatchObject([{ type: "resume-from", stream: "out", offset: 3 }]);
  });
});

describe("results", () => {
  const result = { attempt: attempt(1), homeNo: 1, record: Scene.record };
  const finished = (session: SceneType, outcome: Parameters<SceneType["apply"]>[0] & { kind: "finished" }) =>
    messages(session.apply(outcome));

  it("go to the store one by one", () => {
    expect(scene().frame({ type: "result", items: [result] })).toEqual([{ kind: "finish", items: [result] }]);
  });

  it.each(["stored", "same", "late"] as const)(
    "that are %s are acknowledged [result twice; result through A and B; result for lost row]",
    (kind) => {
      expect(finished(scene(), { kind: "finished", attempt: attempt(1), windowBytes, outcome: { kind } })).toEqual([
        { type: "result-ack", items: [{ attempt: attempt(1), verdict: "acknowledged" }] },
      ]);
    },
  );

  it("of unknown rows are answered unknown: the agent keeps result and files", () => {
    expect(
      finished(scene(), { kind: "finished", attempt: attempt(1), windowBytes, outcome: { kind: "unknown" } }),
    ).toEqual([{ type: "result-ack", items: [{ attempt: attempt(1), verdict: "unknown" }] }]);
  });

  it("that overtake their log make both streams resume from what is stored, and nothing is acknowledged", () => {
    const session = scene();
    const sent = finished(session, {
      kind: "finished",
      attempt: attempt(1),
      windowBytes,
      outcome: { kind: "behind", out: 3, err: 1, homeNo: 2 },
    });
    expect(sent).toEqual([
      { type: "resume-from", ...place, offset: 3, window: windowBytes, homeNo: 2 },
      { type: "resume-from", ...place, stream: "err", offset: 1, window: windowBytes, homeNo: 2 },
    ]);
    expect(session.frame(log(3))).toMatchObject([{ kind: "append", offset: 3 }]);
  });
});

describe("resuming a home here", () => {
  const resume = (session: SceneType, homeNo: number, outcome: object) =>
    messages(
      session.apply({
        kind: "resumed",
        items: [{ attempt: attempt(1), homeNo }],
        windowBytes,
        outcomes: [{ kind: "row", homeNo, out: 7, err: 0, final: false, byAgent: false, ...outcome }],
      }),
    );

  it("is written first, then answered with where both streams stand", () => {
    const session = scene();
    const items = [{ attempt: attempt(1), homeNo: 2 }];
    expect(session.frame({ type: "resume", items })).toEqual([{ kind: "resume", items }]);
    expect(resume(session, 2, {})).toMatchObject([
      { type: "resume-from", stream: "out", offset: 7, homeNo: 2 },
      { type: "resume-from", stream: "err", offset: 0, homeNo: 2 },
    ]);
    expect(session.frame(log(7, "x", 2))).toMatchObject([{ kind: "append", offset: 7, homeNo: 2 }]);
  });

  it("that comes after a later move is told the later home [resume messages reordered]", () => {
    expect(resume(scene(), 2, { homeNo: 3 })).toMatchObject([{ homeNo: 3 }, { homeNo: 3 }]);
  });

  it("of an attempt without a row is answered unknown", () => {
    const session = scene();
    expect(
      messages(
        session.apply({
          kind: "resumed",
          items: [{ attempt: attempt(1), homeNo: 2 }],
          windowBytes,
          outcomes: [{ kind: "unknown" }],
        }),
      ),
    ).toEqual([{ type: "result-ack", items: [{ attempt: attempt(1), verdict: "unknown" }] }]);
  });
});
