// The journal's bytes: every truncation is a torn tail, every flipped bit is damage, and folding a snapshot changes nothing.
import { describe, expect, test } from "vitest";
import { encodeJournalFrame, scanJournal } from "../../../agent/journal-frame.ts";
import type { JournalRecord } from "../../../agent/journal-record.ts";
import { decodeRecord, encodeRecord } from "../../../agent/journal-record.ts";
import type { JournalState } from "../../../agent/journal-state.ts";
import { applyRecord, closedKept, emptyJournalState, snapshotRecords } from "../../../agent/journal-state.ts";
import { recover } from "../../../agent/recovery.ts";
import { attemptIdSchema, bootIdSchema, journalIdSchema, taskIdSchema } from "../../../shared/ids.ts";
import type { AttemptId } from "../../../shared/ids.ts";
import { taskSpecSchema } from "../../../shared/task.ts";
import { sha256Hex } from "../../../shared/thumbprint.ts";
import { bootsPerHello } from "../../../shared/wire/hello.ts";
import type { ResultRecord } from "../../../shared/wire/result.ts";

const attempt = (no: number): AttemptId =>
  attemptIdSchema.parse(`00000000-0000-7000-8000-${String(no).padStart(12, "0")}`);
const empty = { length: 0, sha256: sha256Hex("") };
const result: ResultRecord = {
  outcome: "succeeded",
  reason: "",
  exitCode: 0,
  signal: null,
  startedAtMs: 1,
  finishedAtMs: 2,
  durationMs: 1,
  out: empty,
  err: empty,
};
const facts = (no: number) => ({
  attempt: attempt(no),
  task: taskIdSchema.parse(attempt(100 + no)),
  attemptNumber: 1,
  offerNo: 1,
  lane: "work" as const,
  spec: taskSpecSchema.parse({ kind: "script", script: "echo @@@ ``` 0" }),
});
const sample: JournalRecord[] = [
  { kind: "journal", format: 1, id: journalIdSchema.parse(attempt(900)) },
  { kind: "boot", counter: 1, bootId: bootIdSchema.parse(attempt(901)), hostBootId: "boot-1" },
  { kind: "lineage", boots: [bootIdSchema.parse(attempt(899)), bootIdSchema.parse(attempt(901))] },
  { kind: "intent", facts: facts(1), startingOn: "boot-1" },
  { kind: "intent", facts: facts(2) },
  { kind: "started", attempt: attempt(1), startedAtMs: 5 },
  { kind: "starting", attempt: attempt(2), hostBootId: "boot-1" },
  { kind: "home", attempt: attempt(2), homeNo: 2 },
  { kind: "result", attempt: attempt(1), record: result },
  { kind: "acknowledged", attempt: attempt(1) },
  { kind: "cancelling", attempt: attempt(2), graceMs: 10 },
  { kind: "tombstone", attempt: attempt(3), refusal: { reason: "interpreter-missing", detail: "pwsh" } },
  { kind: "result", attempt: attempt(4), record: { ...result, outcome: "cancelled" } },
  { kind: "closed", attempts: [attempt(1)] },
];
const bytes = Buffer.concat(sample.map((record) => encodeJournalFrame(encodeRecord(record))));

function fold(payloads: readonly Buffer[]): JournalState {
  const state = emptyJournalState();
  for (const payload of payloads) applyRecord(state, decodeRecord(payload));
  return state;
}

describe("a journal cut at any byte", () => {
  test("reads as its whole records and a torn tail", () => {
    const ends = new Set<number>([0]);
    for (let at = 0, no = 0; no < sample.length; no += 1) {
      const record = sample[no];
      if (record !== undefined) at += encodeJournalFrame(encodeRecord(record)).length;
      ends.add(at);
    }
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const scan = scanJournal(bytes.subarray(0, cut));
      expect(scan.damage, `cut at ${cut}`).toBe(ends.has(cut) ? "none" : "torn-tail");
      expect(ends.has(scan.end)).toBe(true);
      expect(scan.payloads.map(decodeRecord)).toEqual(sample.slice(0, scan.payloads.length));
    }
  });

  test("never leads to a second start of what the gate knows as started", () => {
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const state = fold(scanJournal(bytes.subarray(0, cut)).payloads);
      for (const { startingOn, cancelGraceMs } of state.open.values()) {
        const journal = cancelGraceMs !== undefined ? "cancelling" : startingOn === undefined ? "intent" : "starting";
        const action = recover({ journal, hostBoot: "same", marker: "shim", shim: "dead", exit: undefined });
        expect(action.kind).not.toMatch(/^start/);
      }
    }
  });

  test("padded with the zeros of blocks that were never written is torn as well", () => {
    for (let cut = 0; cut < bytes.length; cut += 7) {
      const scan = scanJournal(Buffer.concat([bytes.subarray(0, cut), Buffer.alloc(4_096)]));
      expect(["torn-tail"], `cut at ${cut}`).toContain(scan.damage);
    }
  });

  test("whose last sector was never written is torn, however little of it the record had reached", () => {
    const last = sample.at(-1);
    if (last === undefined) throw new Error("the sample holds records");
    const whole = bytes.length - encodeJournalFrame(encodeRecord(last)).length;
    for (let from = whole + 1; from < bytes.length; from += 1) {
      const file = Buffer.from(bytes).fill(0, from);
      expect(scanJournal(file), `zeros from ${from}`).toMatchObject({ damage: "torn-tail", end: whole });
    }
  });
});

describe("a journal with any one bit flipped", () => {
  test("is damaged, never shorter", () => {
    for (let at = 0; at < bytes.length; at += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        const flipped = Buffer.from(bytes);
        flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
        expect(scanJournal(flipped).damage, `byte ${at} bit ${bit}`).toBe("middle");
      }
    }
  });

  test("still shows every record but the damaged one", () => {
    for (let at = 0; at < bytes.length; at += 13) {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      expect(scanJournal(flipped).payloads.length).toBe(sample.length - 1);
    }
  });
});

describe("what the records add up to", () => {
  test("is the same after a rewrite", () => {
    const state = fold(scanJournal(bytes).payloads);
    const again = emptyJournalState();
    for (const record of snapshotRecords(state)) applyRecord(again, decodeRecord(encodeRecord(record)));
    expect(again).toEqual(state);
    expect([...state.closed.keys()]).toEqual([attempt(3), attempt(1)]);
    expect(state.open.get(attempt(2))).toMatchObject({ startingOn: "boot-1", cancelGraceMs: 10, homeNo: 2 });
    expect(state.open.get(attempt(4))).toMatchObject({ facts: undefined, result: { outcome: "cancelled" } });
  });

  test("holds no spec of an acknowledged attempt, in memory or after a rewrite", () => {
    const state = emptyJournalState();
    const spec = taskSpecSchema.parse({ kind: "script", script: "#".repeat(500_000) });
    applyRecord(state, { kind: "intent", facts: { ...facts(1), spec }, startingOn: "boot-1" });
    applyRecord(state, { kind: "home", attempt: attempt(1), homeNo: 3 });
    applyRecord(state, { kind: "result", attempt: attempt(1), record: result });
    applyRecord(state, { kind: "acknowledged", attempt: attempt(1) });
    expect(JSON.stringify([...state.acknowledged]).length).toBeLessThan(2_000);
    const records = [...snapshotRecords(state)];
    expect(records.map((record) => encodeRecord(record).length).reduce((sum, length) => sum + length)).toBeLessThan(
      2_000,
    );
    expect(state.acknowledged.get(attempt(1))).toMatchObject({ homeNo: 3, result });
    const again = emptyJournalState();
    for (const record of records) applyRecord(again, decodeRecord(encodeRecord(record)));
    expect(again).toEqual(state);
  });

  test("keeps the ids of the last 100,000 closed attempts", () => {
    const state = emptyJournalState();
    for (let no = 0; no < closedKept + 10; no += 1) applyRecord(state, { kind: "closed", attempts: [attempt(no)] });
    expect(state.closed.size).toBe(closedKept);
    expect(state.closed.has(attempt(9))).toBe(false);
    expect(state.closed.has(attempt(10))).toBe(true);
  });

  test("names every boot since the welcome, and of too many those next to it and the last", () => {
    const state = emptyJournalState();
    const bootOf = (no: number) => bootIdSchema.parse(attempt(no));
    for (let no = 0; no < bootsPerHello + 50; no += 1)
      applyRecord(state, { kind: "boot", counter: no, bootId: bootOf(no), hostBootId: "h" });
    expect(state.lineage).toHaveLength(bootsPerHello);
    expect(state.lineage[0]).toBe(bootOf(0));
    expect(state.lineage.at(-1)).toBe(bootOf(bootsPerHello + 49));
    applyRecord(state, { kind: "lineage", boots: state.lineage.slice(-2) });
    expect(state.lineage).toEqual([bootOf(bootsPerHello + 48), bootOf(bootsPerHello + 49)]);
  });

  test("does not open a closed attempt again", () => {
    const state = emptyJournalState();
    applyRecord(state, { kind: "closed", attempts: [attempt(1)] });
    applyRecord(state, { kind: "home", attempt: attempt(1), homeNo: 5 });
    expect(state.open.size).toBe(0);
  });
});

test("a field of a spec that only a later version knows is remembered, also over a rewriting", () => {
  const intent = { kind: "intent", facts: facts(1) } as const;
  const later = { ...intent, facts: { ...intent.facts, spec: { ...intent.facts.spec, sandbox: "strict" } } };
  const read = decodeRecord(Buffer.from(JSON.stringify(later)));
  expect(read).toMatchObject({ facts: { lostFields: ["sandbox"] } });
  expect(decodeRecord(encodeRecord(read))).toEqual(read);
  expect(decodeRecord(encodeRecord(intent))).toEqual(intent);
});
