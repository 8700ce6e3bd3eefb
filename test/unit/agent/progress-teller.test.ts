// Which of what scripts say reaches a node, and how often.
import { beforeEach, expect, test } from "vitest";
import { ProgressTeller } from "../../../agent/progress-teller.ts";
import { attemptIdSchema, type AttemptId } from "../../../shared/ids.ts";
import type { ProgressLine } from "../../../shared/progress-line.ts";
import type { FromAgent } from "../../../shared/wire/from-agent.ts";
import { FakeClock } from "../../fakes/clock.ts";

const idOf = (no: number): AttemptId =>
  attemptIdSchema.parse(`00000000-0000-7000-8000-${String(no).padStart(12, "0")}`);
const attempt = idOf(1);

let clock: FakeClock;
let teller: ProgressTeller;
let sent: { atMs: number; message: FromAgent }[];
let reads: number;
let said: ProgressLine | undefined;

const outlet = () => ({
  queued: 0,
  send: (message: FromAgent) => void sent.push({ atMs: clock.monotonicMs(), message }),
});
const attach = (to = outlet(), homeNo = 1): void =>
  teller.attach(attempt, {
    outlet: to,
    homeNo,
    script: {
      progress: () => {
        reads += 1;
        return said;
      },
    },
  });
const say = (percent: number, message = ""): void => void (said = { percent, message });
const told = (): (number | null)[] =>
  sent.flatMap(({ message }) => (message.type === "progress" ? message.items.map(({ percent }) => percent) : []));

/** As the engine's tick, a little late each time. */
function pass(ms: number): void {
  for (let at = 0; at < ms; at += 500) {
    clock.advance(500 + (at % 3));
    teller.look();
  }
}

beforeEach(() => {
  clock = new FakeClock();
  teller = new ProgressTeller({ clock });
  sent = [];
  reads = 0;
  said = undefined;
});

test("what is said is told once, and again when the percentage or the words change", () => {
  attach();
  pass(3_000);
  say(10, "copying");
  pass(3_000);
  say(10, "checking");
  pass(3_000);
  say(11, "checking");
  pass(3_000);
  expect(sent.map(({ message }) => message)).toEqual([
    { type: "progress", items: [{ attempt, homeNo: 1, percent: 10, message: "copying" }] },
    { type: "progress", items: [{ attempt, homeNo: 1, percent: 10, message: "checking" }] },
    { type: "progress", items: [{ attempt, homeNo: 1, percent: 11, message: "checking" }] },
  ]);
});

test("of a script that says something all the time the newest is told about once a second", () => {
  attach();
  for (let tick = 0; tick < 100; tick += 1) {
    say(tick);
    pass(500);
  }
  expect(told()).toHaveLength(50);
  expect(told().at(-1)).toBe(98);
  const gaps = sent.slice(1).map(({ atMs }, index) => atMs - (sent[index]?.atMs ?? 0));
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1_000);
  expect(reads).toBe(50);
});

test("behind a busy socket nothing is read or sent; the newest is when it is free", () => {
  const busy = outlet();
  attach(busy);
  busy.queued = 65;
  say(1);
  pass(5_000);
  expect([told(), reads]).toEqual([[], 0]);
  say(2);
  busy.queued = 64;
  pass(1_000);
  expect(told()).toEqual([2]);
});

test("the next home is told what the last one was told already, under its own number", () => {
  attach();
  say(5);
  pass(2_000);
  teller.detach(attempt);
  pass(5_000);
  attach(outlet(), 2);
  pass(2_000);
  expect(sent.map(({ message }) => message)).toEqual([
    { type: "progress", items: [{ attempt, homeNo: 1, percent: 5, message: "" }] },
    { type: "progress", items: [{ attempt, homeNo: 2, percent: 5, message: "" }] },
  ]);
});

test("a home that takes over at once is told too", () => {
  attach();
  say(5);
  pass(1_000);
  attach(outlet(), 2);
  pass(1_000);
  expect(told()).toEqual([5, 5]);
});

test("homes that change all the time make it no more talkative", () => {
  for (let tick = 0; tick < 20; tick += 1) {
    attach();
    say(tick);
    pass(500);
  }
  expect(told()).toHaveLength(10);
});

test("each attempt has a message of its own, so that none waits for the log of another", () => {
  for (const no of [1, 2, 3])
    teller.attach(idOf(no), {
      outlet: outlet(),
      homeNo: 1,
      script: { progress: () => ({ percent: no, message: "" }) },
    });
  pass(500);
  expect(sent.map(({ message }) => ("items" in message ? message.items.length : 0))).toEqual([1, 1, 1]);
});
