// Slots, isolation locks and the line of those who wait for either.
import { beforeEach, describe, expect, test } from "vitest";
import { Turns } from "../../../agent/turns.ts";
import { attemptIdSchema, type AttemptId } from "../../../shared/ids.ts";
import { taskSpecSchema, type Lane } from "../../../shared/task.ts";

const id = (no: number): AttemptId => attemptIdSchema.parse(`00000000-0000-7000-8000-${String(no).padStart(12, "0")}`);
const numbers = (attempts: readonly AttemptId[]): number[] => attempts.map((attempt) => Number(attempt.slice(-12)));
const all = (): boolean => true;

let turns: Turns;
beforeEach(() => {
  turns = new Turns({ workSlots: 4, systemSlots: 2, waitingAtMost: 3 });
});

const facts = (isolation?: object, lane: Lane = "work") => ({
  lane,
  spec: taskSpecSchema.parse({ kind: "script", script: "true", isolation }),
});
const full = { mode: "full" };
const enter = (no: number, isolation?: object, options: { lane?: Lane; atMs?: number } = {}) =>
  turns.enter(id(no), facts(isolation, options.lane), options.atMs ?? 0);
const grant = (): number[] => numbers(turns.grant(all));

describe("an isolation lock", () => {
  test("lets scripts that ask for nothing run side by side", () => {
    expect([enter(1), enter(2, { mode: "none" }), enter(3, { name: "default" })]).toEqual(["held", "held", "held"]);
  });

  test("lets a full one run when nobody of its name does, and nobody of its name beside it", () => {
    expect(enter(1, full)).toBe("held");
    expect([enter(2), enter(3, full), enter(4, { ...full, name: "other" })]).toEqual(["wanted", "wanted", "held"]);
    expect(grant()).toEqual([]);
    turns.release(id(1));
    expect(grant()).toEqual([2]);
    turns.release(id(2));
    expect(grant()).toEqual([3]);
  });

  test("is not given to a reader that came after a writer, so that readers never starve it", () => {
    enter(1);
    expect([enter(2, full), enter(3)]).toEqual(["wanted", "wanted"]);
    expect(grant()).toEqual([]);
    turns.release(id(1));
    expect(grant()).toEqual([2]);
    turns.release(id(2));
    expect(grant()).toEqual([3]);
  });

  test("keeps its order for a writer that cannot use it yet: its record is on its way to the disk", () => {
    enter(1);
    enter(2, full);
    enter(3);
    turns.release(id(1));
    expect(numbers(turns.grant((attempt) => attempt !== id(2)))).toEqual([]);
    expect(grant()).toEqual([2]);
  });

  test("keeps its order over lanes: a reader with a slot of its own does not pass a writer that waits for one", () => {
    for (const no of [1, 2, 3, 4]) enter(no, { name: "other" });
    expect(enter(5, full)).toBe("wanted");
    expect(enter(6, undefined, { lane: "system" })).toBe("wanted");
    expect(grant()).toEqual([]);
    turns.release(id(1));
    expect(grant()).toEqual([5]);
  });

  test("is taken by what runs already, whoever holds it, and awaited by all who come then", () => {
    turns.retake(id(1), facts(full));
    turns.retake(id(2), facts(full));
    turns.queueAgain(id(3), facts(full), 0);
    turns.prove();
    expect(grant()).toEqual([]);
    turns.release(id(1));
    expect(grant()).toEqual([]);
    turns.release(id(2));
    expect(grant()).toEqual([3]);
  });

  test("is free for others when one that waits for it leaves", () => {
    enter(1);
    enter(2, full);
    enter(3);
    turns.leave(id(2));
    expect(grant()).toEqual([3]);
  });
});

describe("one that waits", () => {
  test("holds no slot: others are offered and start", () => {
    enter(1, full);
    enter(2, full);
    expect(turns.room("work")).toBe(3);
    expect([enter(3, { name: "other" }), enter(4, { name: "other" })]).toEqual(["held", "held"]);
    expect(turns.room("work")).toBe(1);
  });

  test("for a slot alone is counted against what is offered", () => {
    enter(1);
    enter(2, full);
    turns.release(id(1));
    expect(turns.room("work")).toBe(3);
  });

  test("is one of so many at most; then nothing that would wait is taken, and nothing offered", () => {
    enter(1, full);
    expect([enter(2), enter(3), enter(4), enter(5)]).toEqual(["wanted", "wanted", "wanted", "full"]);
    expect(turns.room("work")).toBe(0);
    expect(enter(6, { name: "other" })).toBe("held");
    expect(turns.waiting).toBe(3);
  });

  test("is overdue when its lock is still held after its limit, not when only a slot is missing", () => {
    enter(1, full);
    enter(2, { ...full, waitMs: 500 }, { atMs: 100 });
    expect(numbers(turns.overdue(599))).toEqual([]);
    expect(numbers(turns.overdue(600))).toEqual([2]);
    turns.release(id(1));
    for (const no of [11, 12, 13, 14]) enter(no, { name: "other" });
    expect(numbers(turns.overdue(10_000))).toEqual([]);
    expect(grant()).toEqual([]);
  });

  test("is overdue also behind another one that waits", () => {
    enter(1);
    enter(2, full);
    enter(3, { waitMs: 50 });
    expect(numbers(turns.overdue(60))).toEqual([3]);
  });
});

describe("one that an earlier process accepted", () => {
  test("has no turn before a node has admitted this boot: its disk may be a snapshot of one where it has run", () => {
    turns.queueAgain(id(1), facts(), 0);
    expect(grant()).toEqual([]);
    turns.prove();
    expect(grant()).toEqual([1]);
  });
});

describe("slots set while scripts run", () => {
  test("fewer end nothing and start nothing more; more start at once what waits", () => {
    for (const no of [1, 2, 3, 4]) enter(no);
    turns.setWorkSlots(1);
    expect([turns.running, turns.room("work")]).toEqual([4, -3]);
    expect(enter(5)).toBe("wanted");
    for (const no of [1, 2, 3]) turns.release(id(no));
    expect(grant()).toEqual([]);
    turns.setWorkSlots(2);
    expect(grant()).toEqual([5]);
  });

  test("none takes nothing, not even into the line; the other lane is not asked", () => {
    turns.setWorkSlots(0);
    expect([enter(1), enter(2, undefined, { lane: "system" })]).toEqual(["full", "held"]);
  });
});
