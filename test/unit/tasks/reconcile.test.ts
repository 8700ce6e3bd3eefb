// What a greeting means for attempts: rows against what the agent listed. Absence ends nothing.
import { describe, expect, it } from "vitest";
import { reconcile } from "../../../server/tasks/reconcile.ts";
import { journalIdSchema } from "../../../shared/ids.ts";
import type { AttemptReport } from "../../../shared/wire/attempt-report.ts";
import { attempt, openRow, reportOf, scene, uuid } from "./scene.ts";

const { journalId } = scene();
const judge = (rows: Parameters<typeof reconcile>[0]["rows"], listed: readonly AttemptReport[]) =>
  reconcile({ journalId, rows, listed });
const nothing = { verdicts: [], reached: [], cancels: [], inquiries: [], collected: [] };

describe("attempts the agent lists", () => {
  it.each([
    ["accepted", "offered", 1, "keep"],
    ["running", "accepted", 2, "keep"],
    ["running", "lost", 9, "keep"],
    ["running", "cancelled", 9, "cancel"],
    ["accepted", "abandoned", 9, "cancel"],
    ["finished", "cancelled", 9, "keep"],
    ["collected", "succeeded", 9, "keep"],
  ] as const)("%s, while the row says %s: %s %s", (state, row, rank, verdict) => {
    expect(judge([openRow({ state: row, rank })], [reportOf(1, state)]).verdicts).toEqual([
      { attempt: attempt(1), verdict },
    ]);
  });

  it("without a row are unknown, and the agent goes on with what it has", () => {
    expect(judge([], [reportOf(1, "running")])).toEqual({
      ...nothing,
      verdicts: [{ attempt: attempt(1), verdict: "unknown" }],
    });
  });

  it("raise a row that stands lower, without taking the home", () => {
    expect(judge([openRow({ rank: 1, state: "offered" })], [reportOf(1, "accepted", 3)]).reached).toEqual([
      { attempt: attempt(1), homeNo: 3, homeHere: false, reached: "accepted" },
    ]);
    expect(judge([openRow({ rank: 3, state: "running" })], [reportOf(1, "accepted", 3)]).reached).toEqual([]);
    expect(judge([openRow({ rank: 9, state: "lost" })], [reportOf(1, "running", 3)]).reached).toEqual([]);
  });

  it("that are to be cancelled get the verdict and the order to do it, unless they have ended by themselves", () => {
    const found = judge([openRow({ cancelRequested: true })], [reportOf(1, "running")]);
    expect(found).toMatchObject({
      verdicts: [{ verdict: "cancel" }],
      cancels: [{ attempt: attempt(1), graceMs: 500 }],
    });
    expect(judge([openRow({ cancelRequested: true })], [reportOf(1, "finished")]).cancels).toEqual([]);
  });

  it("that are collected while their row is open were lost by a database failover", () => {
    expect(judge([openRow()], [reportOf(1, "collected")]).collected).toEqual([attempt(1)]);
    expect(judge([openRow({ state: "succeeded", rank: 9 })], [reportOf(1, "collected")]).collected).toEqual([]);
  });
});

describe("rows the agent does not list", () => {
  it("and had accepted are asked about, never ended [greeting at C, accept through A]", () => {
    for (const row of [openRow(), openRow({ state: "running", rank: 3 })])
      expect(judge([row], [])).toEqual({ ...nothing, inquiries: [attempt(1)] });
  });

  it("and were only offered are left alone [greeting at C, offer from A in flight]", () => {
    expect(judge([openRow({ state: "offered", rank: 1 })], [])).toEqual(nothing);
  });

  it("and are bound to another journal or final are left alone", () => {
    const other = journalIdSchema.parse(uuid(77));
    expect(judge([openRow({ journalId: other }), openRow({ state: "succeeded", rank: 9 })], [])).toEqual(nothing);
  });

  it("and are to be cancelled get the cancel, even when only offered [cancel overtakes offer]", () => {
    expect(judge([openRow({ state: "offered", rank: 1, cancelRequested: true })], [])).toEqual({
      ...nothing,
      cancels: [{ attempt: attempt(1), graceMs: 500 }],
    });
  });
});
