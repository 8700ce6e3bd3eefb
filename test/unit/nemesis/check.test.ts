// The judge, shown one history without a fault and, one at a time, each wrong that it is there to see.
import { describe, expect, it } from "vitest";
import { countedLines, type TruthLine } from "../../harness/script-truth.ts";
import { checkHistory } from "../../nemesis/check.ts";
import type { History, JournalFacts, Look, StoredAttempt, Submitted } from "../../nemesis/history.ts";

const counts = { count: 4, exitCode: 3, repeat: "twice" } as const;
const answer = { submission: "submission-1", tasks: ["task-1"], node: "node-01", atMs: 1_100 };

const line = (word: TruthLine["word"], atMs: number, attempt = "attempt-1"): TruthLine => ({
  word,
  attempt,
  pid: 7,
  atMs,
});
const wholeTruth = [
  line("start", 2_000),
  ...[2_000, 2_250, 2_500, 2_750].map((at) => line("beat", at)),
  line("end", 3_000),
];

const submitted: Submitted = {
  key: "key-1",
  agent: "agent-01",
  work: { kind: "counted", pace: "slow", ...counts },
  truth: "/nowhere",
  invokedAtMs: 1_000,
  answers: [answer, { ...answer, node: "node-02" }],
  tries: 2,
  troubles: [],
  cancel: undefined,
};
const stored: StoredAttempt = {
  id: "attempt-1",
  task: "task-1",
  number: 1,
  state: "failed",
  reason: "exit-code",
  exitCode: 3,
  signal: null,
  hasResult: true,
  createdAtMs: 1_050,
  finishedAtMs: 3_100,
  out: countedLines(4),
  err: "",
  outNext: countedLines(4).length,
  lateResults: 0,
};
const journal: JournalFacts = {
  agent: "agent-01",
  damage: undefined,
  open: [],
  started: new Set(["attempt-1"]),
  results: [{ attempt: "attempt-1", outcome: "failed", exitCode: 3 }],
};

/** One each second, from 2,000 on. */
const looks = (...states: readonly Look["state"][]): Look[] =>
  states.map((state, no) => {
    const askedAtMs = 2_000 + no * 1_000;
    return { task: "task-1", state, firstAnsweredAtMs: askedAtMs + 10, lastAskedAtMs: askedAtMs };
  });

interface Change {
  readonly submitted?: Partial<Submitted>;
  readonly stored?: Partial<StoredAttempt>;
  readonly journal?: Partial<JournalFacts>;
  readonly truth?: readonly TruthLine[];
  readonly history?: Partial<History>;
}

function historyWith(change: Change = {}): History {
  return {
    submitted: [{ ...submitted, ...change.submitted }],
    truths: new Map([["key-1", change.truth ?? wholeTruth]]),
    looks: looks("queued", "running", "failed"),
    tasks: [{ id: "task-1", submission: "submission-1", key: "key-1" }],
    attempts: [{ ...stored, ...change.stored }],
    journals: [{ ...journal, ...change.journal }],
    databaseDeaths: [],
    deaths: [{ name: "agent-01", exitCode: 75, lastWords: "no space left" }],
    filled: new Set(),
    ...change.history,
  };
}

const invariants = (change: Change): readonly string[] =>
  checkHistory(historyWith(change)).map(({ invariant }) => invariant);

const endless = { count: 160, exitCode: 3, repeat: "once" } as const;
const cancelled: Change = {
  submitted: {
    work: { kind: "cancelled", ...endless, afterMs: 100 },
    cancel: { askedAtMs: 2_300, answeredAtMs: 2_400 },
  },
  truth: wholeTruth.slice(0, -2),
  stored: {
    state: "cancelled",
    exitCode: null,
    signal: "SIGTERM",
    finishedAtMs: 2_600,
    out: countedLines(3),
    outNext: 21,
  },
  journal: { results: [{ attempt: "attempt-1", outcome: "cancelled", exitCode: null }] },
};

describe("a history without a fault", () => {
  it("is not blamed", () => {
    expect(checkHistory(historyWith())).toEqual([]);
  });

  it("may have a cancelled script, killed between two lines", () => {
    expect(checkHistory(historyWith(cancelled))).toEqual([]);
    const midway = { ...cancelled, stored: { ...cancelled.stored, out: countedLines(2), outNext: 14 } };
    expect(checkHistory(historyWith(midway))).toEqual([]);
  });

  it("may have lost output to a full disk, when that is told", () => {
    for (const [out, outNext] of [
      ["", 0],
      ["line 1\nne 3\n", 12],
    ] as const) {
      const lossy = { out, outNext, reason: "output-lost" };
      expect(invariants({ stored: lossy, history: { filled: new Set([submitted.agent]) } })).toEqual([]);
      expect(invariants({ stored: lossy })).toEqual(["I10"]);
    }
    const history = { filled: new Set([submitted.agent]) };
    expect(invariants({ stored: { out: "", outNext: 0 }, history })).toEqual(["I10"]);
    const turned = { out: "line 2\nline 1\n", outNext: 14, reason: "output-lost" };
    expect(invariants({ stored: turned, history })).toEqual(["I10"]);
  });

  it("may have taken an acceptance or a start back with a death of the database", () => {
    const seen = (states: readonly Look["state"][], fromMs: number, toMs: number): readonly string[] =>
      invariants({ history: { looks: looks(...states), databaseDeaths: [{ fromMs, toMs }] } });
    expect(seen(["running", "accepted", "failed"], 2_500, 2_600)).toEqual([]);
    expect(seen(["running", "offered", "failed"], 1_000, 2_000)).toEqual([]);
    // Before the one look, after the other, or what was promised for good.
    expect(seen(["running", "accepted"], 1_000, 1_999)).toEqual(["I26"]);
    expect(seen(["running", "accepted"], 3_011, 4_000)).toEqual(["I26"]);
    expect(seen(["running", "queued"], 2_500, 2_600)).toEqual(["I26"]);
    expect(seen(["failed", "running"], 2_500, 2_600)).toEqual(["I8"]);
  });

  it("may have no-ops, which write nothing", () => {
    const noOp: Change = {
      submitted: { work: { kind: "no-op", count: 0, exitCode: null, repeat: "once" } },
      truth: [],
      stored: { state: "succeeded", reason: "", exitCode: null, out: "", outNext: 0 },
      journal: { results: [{ attempt: "attempt-1", outcome: "succeeded", exitCode: null }] },
    };
    const history = { looks: [] };
    expect(invariants({ ...noOp, history })).toEqual([]);
    expect(invariants({ ...noOp, history, stored: { ...noOp.stored, exitCode: 0 } })).toEqual(["I7", "I8"]);
    expect(invariants({ ...noOp, history, stored: { ...noOp.stored, state: "failed" } })).toEqual(["I7", "I8"]);
    expect(invariants({ ...noOp, history, stored: { ...noOp.stored, out: "line 1\n", outNext: 7 } })).toEqual(["I10"]);
  });

  it("may have a task cancelled before it was offered, which started nowhere", () => {
    const early: Change = {
      ...cancelled,
      truth: [],
      stored: { ...cancelled.stored, hasResult: false, signal: null, out: "", outNext: 0 },
      journal: { started: new Set(), results: [] },
    };
    expect(checkHistory(historyWith(early))).toEqual([]);
  });
});

const wrongs: readonly (readonly [what: string, invariant: string, change: Change])[] = [
  ["an acknowledged task is gone", "I1", { history: { attempts: [], tasks: [] } }],
  ["a client was never answered", "I2", { submitted: { answers: [] } }],
  ["a cancel was never answered", "I2", { submitted: { cancel: { askedAtMs: 2_000, answeredAtMs: undefined } } }],
  ["a task never comes to its end", "I2", { stored: { state: "running", hasResult: false, finishedAtMs: null } }],
  ["a good request is refused", "refusal", { submitted: { refused: "request.invalid: …" } }],
  [
    "a task is stored that nobody asked for",
    "I3",
    {
      history: {
        tasks: [
          { id: "task-1", submission: "submission-1", key: "key-1" },
          { id: "task-2", submission: "submission-2", key: "key-2" },
        ],
      },
    },
  ],
  ["an attempt starts twice", "I4", { truth: [line("start", 1_900), ...wholeTruth] }],
  ["a second attempt is made", "I5", { history: { attempts: [stored, { ...stored, id: "attempt-2", number: 2 }] } }],
  ["an attempt starts that is not stored", "I6", { truth: [line("start", 1_900, "attempt-9"), ...wholeTruth] }],
  ["an attempt starts without a journaled STARTING", "I6", { journal: { started: new Set() } }],
  ["another exit code is told", "I7", { stored: { exitCode: 4 }, journal: { results: [] } }],
  ["a failure is called a success", "I7", { stored: { state: "succeeded" }, journal: { results: [] } }],
  ["an end is told of a script that never came to it", "I7", { truth: wholeTruth.slice(0, -1) }],
  ["it is cancelled and nobody asked", "I7", { ...cancelled, submitted: {} }],
  ["it is timed out without a limit", "I7", { ...cancelled, stored: { ...cancelled.stored, state: "timed-out" } }],
  ["it is called lost", "I7", { stored: { state: "lost", reason: "journal-missing", hasResult: false } }],
  ["it is called interrupted", "I7", { stored: { state: "interrupted", reason: "shim-died" } }],
  ["another result came later", "I8", { stored: { lateResults: 1 } }],
  [
    "the journal has another result",
    "I8",
    { journal: { results: [{ attempt: "attempt-1", outcome: "failed", exitCode: 9 }] } },
  ],
  [
    "an end is seen to change",
    "I8",
    {
      history: {
        looks: looks("cancelled", "failed"),
      },
    },
  ],
  [
    "a rank is seen to fall",
    "I26",
    {
      history: {
        looks: looks("running", "queued"),
      },
    },
  ],
  ["a line is missing", "I10", { stored: { out: "line 1\nline 3\nline 4\n", outNext: 21 } }],
  ["a line is there twice", "I10", { stored: { out: `line 1\n${countedLines(4)}`, outNext: 35 } }],
  ["a part was omitted", "I10", { stored: { out: "line 1\n\uFFFCline 4\n", outNext: 28 } }],
  [
    "an ended script's log is cut short",
    "I10",
    { ...cancelled, stored: { ...cancelled.stored, out: "line 1\n", outNext: 7 } },
  ],
  [
    "a log has lines that were never written",
    "I10",
    { ...cancelled, stored: { ...cancelled.stored, out: countedLines(9), outNext: 63 } },
  ],
  ["bytes are promised that are not there", "I10", { stored: { outNext: 999 } }],
  ["there is output on the other stream", "I10", { stored: { err: "what" } }],
  ["a cancelled script goes on", "I12", { ...cancelled, truth: [...wholeTruth.slice(0, -2), line("beat", 9_000)] }],
  ["a script starts after its end", "I12", { ...cancelled, truth: [line("start", 9_000), ...wholeTruth.slice(1, -2)] }],
  [
    "a key is stored twice",
    "I19",
    { history: { tasks: ["task-1", "task-2"].map((id) => ({ id, submission: id, key: "key-1" })) } },
  ],
  [
    "a key is answered in two ways",
    "I19",
    { submitted: { answers: [answer, { ...answer, submission: "submission-2" }] } },
  ],
  ["an agent has something left to tell", "I22", { journal: { open: ["attempt-1"] } }],
  ["a journal cannot be read", "I22", { journal: { damage: "damaged at byte 100 of 200" } }],
  ["a process crashes", "crash", { history: { deaths: [{ name: "node-01", exitCode: 1, lastWords: "TypeError" }] } }],
];

describe("a history in which", () => {
  it.each(wrongs)("%s is blamed with %s", (_what, invariant, change) => {
    expect(invariants(change)).toContain(invariant);
  });

  it("one thing is wrong names whose it is", () => {
    const [violation] = checkHistory(historyWith({ stored: { exitCode: 4 }, journal: { results: [] } }));
    expect(violation).toEqual({
      invariant: "I7",
      subject: "key-1",
      what: "attempt attempt-1 is failed: exit-code, exit code 4, signal null, expected 3",
    });
  });
});
