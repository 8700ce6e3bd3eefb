// An agent that finds the note of an update which nobody watches any more.
import { expect, test } from "vitest";
import { judgePending, type PendingLook, type PendingVerdict } from "../../../../agent/update/pending.ts";

const note = { from: "1-a", to: "2-b" };
const base: PendingLook = { note, isWatched: false, runs: "2-b", greeted: false, nowMs: 0 };

/** What the last of these looks comes to. */
function after(...looks: Partial<PendingLook>[]): PendingVerdict {
  let verdict: PendingVerdict = { kind: "wait", trial: undefined };
  for (const look of looks) {
    if (verdict.kind !== "wait") throw new Error(`it was ${verdict.kind} before the last look`);
    verdict = judgePending(verdict.trial, { ...base, ...look });
  }
  return verdict;
}

test("without a note nothing is pending", () => {
  expect(after({ note: undefined })).toEqual({ kind: "settled" });
});

test("while an update is at work nothing is touched, and its time does not count", () => {
  const watched = { isWatched: true };
  expect(after({ ...watched, nowMs: 0 }, { ...watched, nowMs: 100_000 })).toMatchObject({ kind: "wait" });
  expect(after({ nowMs: 0 }, { ...watched, nowMs: 59_000 }, { nowMs: 61_000 })).toMatchObject({ kind: "wait" });
});

test("the new version stays once it has had a session for a while", () => {
  const greeted = { greeted: true };
  expect(after({ nowMs: 0 }, { ...greeted, nowMs: 1_000 }, { ...greeted, nowMs: 3_999 })).toMatchObject({
    kind: "wait",
  });
  expect(after({ nowMs: 0 }, { ...greeted, nowMs: 1_000 }, { ...greeted, nowMs: 4_000 })).toEqual({ kind: "keep" });
});

test("a session that was lost again starts its while anew", () => {
  const greeted = { greeted: true };
  const looks = [{ nowMs: 0 }, { ...greeted, nowMs: 1_000 }, { nowMs: 2_000 }, { ...greeted, nowMs: 3_500 }];
  expect(after(...looks, { ...greeted, nowMs: 4_500 })).toMatchObject({ kind: "wait" });
});

test("without a session in its time it goes back and ends; one that opened in the last moment has its while", () => {
  expect(after({ nowMs: 0 }, { nowMs: 59_999 })).toMatchObject({ kind: "wait" });
  expect(after({ nowMs: 0 }, { nowMs: 60_000 })).toEqual({ kind: "go-back", then: "end" });
  expect(after({ nowMs: 0 }, { nowMs: 59_999, greeted: true }, { nowMs: 60_500, greeted: true })).toMatchObject({
    kind: "wait",
  });
});

test("the earlier version, started although a switch was noted, stays and goes on", () => {
  expect(after({ runs: "1-a" })).toEqual({ kind: "go-back", then: "go-on" });
});

test("where there is no other version to go back to, it stays", () => {
  expect(after({ note: { from: "2-b", to: "2-b" } }, { note: { from: "2-b", to: "2-b" }, nowMs: 60_000 })).toEqual({
    kind: "keep",
  });
});
