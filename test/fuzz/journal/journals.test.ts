// A damaged journal is read without a fault and comes to one of three verdicts: whole, a torn tail (then its state is that of
// the records before it, and none that stands whole at the begin is forgotten) or corrupt (then the agent takes no work, which
// agent-faults.test.ts shows). So no damage makes startable again what the whole records know as started.
import { describe, expect, it } from "vitest";
import { foldJournal } from "../../../agent/journal-fold.ts";
import { applyRecord, emptyJournalState, type JournalState } from "../../../agent/journal-state.ts";
import { Dice } from "../dice.ts";
import { fuzzCases, fuzzSeed, onlyCase, replayOf } from "../plan.ts";
import { damaged, damages, wholePrefix, writtenJournal, type WrittenJournal } from "./damage.ts";

type Verdict = "whole" | "torn tail" | "corrupt";

function judge(no: number): { readonly what: string; readonly verdict: Verdict } {
  const dice = new Dice(fuzzSeed, no);
  const journal = writtenJournal(dice);
  const { what, file } = damaged(journal, dice);
  const before = Buffer.from(file);
  const state = emptyJournalState();
  const { end, records, why } = foldJournal(state, file, "journal");
  if (Buffer.compare(before, file) !== 0) throw new Error(`${what}: the file was changed`);
  if (end > file.length) throw new Error(`${what}: ends at ${end} of ${file.length}`);
  if (why !== undefined) {
    if (why.code !== "journal.corrupt") throw new Error(`${what}: ${why.code}`);
    return { what, verdict: "corrupt" };
  }
  const whole = wholePrefix(journal, file);
  if (records !== whole) throw new Error(`${what}: ${records} records read, ${whole} stand whole at the begin`);
  const expected = foldOf(journal, whole);
  if (shown(state) !== shown(expected)) throw new Error(`${what}: not the state of the first ${whole} records`);
  return { what, verdict: end === file.length ? "whole" : "torn tail" };
}

function foldOf({ records }: WrittenJournal, count: number): JournalState {
  const state = emptyJournalState();
  for (const record of records.slice(0, count)) applyRecord(state, record);
  return state;
}

const shown = (state: JournalState): string =>
  JSON.stringify(state, (_key, value: unknown) => (value instanceof Map ? [...value] : value));

describe("a damaged journal", () => {
  it.runIf(onlyCase === undefined)(
    `${fuzzCases.journals} times is whole, torn or corrupt, and starts nothing twice`,
    () => {
      const verdicts = { whole: 0, "torn tail": 0, corrupt: 0 };
      const seen = new Set<string>();
      for (let no = 0; no < fuzzCases.journals; no += 1) {
        try {
          const { what, verdict } = judge(no);
          verdicts[verdict] += 1;
          seen.add(what);
        } catch (cause) {
          throw new Error(replayOf("journal", no), { cause });
        }
      }
      expect(seen.size).toBe(damages.length);
      expect(Math.min(...Object.values(verdicts)) / fuzzCases.journals).toBeGreaterThan(0.02);
    },
  );

  it.runIf(onlyCase !== undefined)("one case again", () => {
    judge(onlyCase ?? 0);
  });
});
