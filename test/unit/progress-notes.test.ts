// What one agent says of its scripts, on its way to the store: the newest, one write at a time, nothing without bound.
import { expect, test } from "vitest";
import { ProgressNotes } from "../../server/gateway/progress-notes.ts";
import type { ProgressNote } from "../../server/store/note-progress.ts";
import { Background } from "../../shared/background.ts";
import { AppError } from "../../shared/errors.ts";
import { agentIdSchema, attemptIdSchema, journalIdSchema, type AttemptId } from "../../shared/ids.ts";
import { silentLogger as logger } from "../../shared/logger.ts";
import { FakeClock } from "../fakes/clock.ts";

const uuid = (no: number): string => `00000000-0000-7000-8000-${String(no).padStart(12, "0")}`;
const attemptOf = (no: number): AttemptId => attemptIdSchema.parse(uuid(no));
const by = { agent: agentIdSchema.parse(uuid(900)), journalId: journalIdSchema.parse(uuid(901)) };

function bench() {
  const clock = new FakeClock();
  const ending = new AbortController();
  const stored: AttemptId[] = [];
  const asked: { readonly note: ProgressNote; answer(error?: AppError): void }[] = [];
  const notes = new ProgressNotes({
    clock,
    logger,
    background: new Background({ logger }),
    signal: ending.signal,
    onStored: (attempt) => void stored.push(attempt),
    store: {
      noteProgress: (note) =>
        new Promise((resolve, reject) => {
          asked.push({ note, answer: (error) => (error === undefined ? resolve() : reject(error)) });
        }),
    },
  });
  const say = (no: number, percent: number, homeNo = 1): void =>
    notes.note([{ attempt: attemptOf(no), homeNo, percent, message: "" }], by);
  /** Lets everything that needs no timer happen. */
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const answer = async (error?: AppError): Promise<void> => {
    for (const one of asked.splice(0)) one.answer(error);
    await turn();
  };
  const later = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await turn();
  };
  const percents = (): (number | null)[] => asked.map(({ note }) => note.percent);
  return { notes, say, asked, percents, answer, later, turn, stored, clock, ending };
}

test("the first is written at once, with whose it is; whoever follows is told when it is stored", async () => {
  const { say, asked, answer, stored } = bench();
  say(1, 40, 3);
  expect(asked.map(({ note }) => note)).toEqual([
    { ...by, attempt: attemptOf(1), homeNo: 3, percent: 40, message: "" },
  ]);
  expect(stored).toEqual([]);
  await answer();
  expect(stored).toEqual([attemptOf(1)]);
});

test("while one is written the newest of each attempt waits, and no other", async () => {
  const { say, percents, answer, later } = bench();
  say(1, 1);
  for (const percent of [2, 3, 4]) say(1, percent);
  say(2, 7);
  await later(60_000);
  expect(percents()).toEqual([1]);
  await answer();
  await later(250);
  expect(percents()).toEqual([4, 7]);
});

test("an agent that never stops talking costs four writes a second of an attempt", async () => {
  const { say, asked, answer, later } = bench();
  let writes = 0;
  for (let ms = 0; ms < 10_000; ms += 50) {
    say(1, ms % 100);
    writes += asked.length;
    await answer();
    await later(50);
  }
  expect(writes).toBeLessThanOrEqual(41);
  expect(writes).toBeGreaterThan(30);
});

test("of more attempts than an agent can have, those beyond the bound are left out", async () => {
  const { say, asked, answer, later } = bench();
  say(1, 1);
  for (let no = 2; no < 3_000; no += 1) say(no, 2);
  say(2, 3);
  await answer();
  await later(250);
  expect(asked).toHaveLength(1_024);
  expect(asked[0]?.note).toMatchObject({ attempt: attemptOf(2), percent: 3 });
});

test("what the database did not take is tried again, unless something newer was said", async () => {
  const { say, percents, answer, later } = bench();
  say(1, 1);
  say(2, 5);
  await answer();
  await later(250);
  expect(percents()).toEqual([5]);
  say(1, 2);
  await answer(new AppError("database.unavailable", "away"));
  await later(250);
  expect(percents()).toEqual([]);
  await later(750);
  expect(percents()).toEqual([2, 5]);
  say(2, 6);
  await answer(new AppError("database.unavailable", "away"));
  await later(1_000);
  expect(percents()).toEqual([6, 2]);
});

test("what cannot be stored is dropped, and ends nothing", async () => {
  const { say, percents, answer, later, stored } = bench();
  say(1, 1);
  await answer(new AppError("internal", "no"));
  await later(1_000);
  expect([percents(), stored]).toEqual([[], []]);
  say(1, 2);
  expect(percents()).toEqual([2]);
});

test("after the session's end nothing is written any more and no timer stays", async () => {
  const { say, percents, answer, later, ending, clock, turn } = bench();
  say(1, 1);
  say(1, 2);
  await answer();
  ending.abort(new AppError("connection.closed", "gone"));
  await turn();
  await later(10_000);
  expect([percents(), clock.timers]).toEqual([[], 0]);
});
