// Folds a journal's bytes into a state and says what is wrong with them. Changes no file: the agent opens its journal with
// it, and doctor looks at one that an agent is writing. Invariant: what can be read is in the state, also of a damaged file.
import { AppError } from "../shared/errors.ts";
import { scanJournal } from "./journal-frame.ts";
import { decodeNumberedRecord } from "./journal-record.ts";
import type { JournalState } from "./journal-state.ts";
import { applyRecord } from "./journal-state.ts";

export interface JournalFold {
  /** Where whole records end; what is behind is a torn tail, which nobody was ever told of, or damage. */
  readonly end: number;
  /** Whole records up to there: the number of the next one. */
  readonly records: number;
  /** `journal.corrupt`: damage other than a torn tail. The agent that finds it takes no work. */
  readonly why: AppError | undefined;
}

/** Adds to `state`; `path` is for the words. */
export function foldJournal(state: JournalState, file: Buffer, path: string): JournalFold {
  const { payloads, end, damage } = scanJournal(file);
  let why: AppError | undefined;
  for (const [place, payload] of payloads.entries()) {
    try {
      const { record, no = place } = decodeNumberedRecord(payload);
      // Each record is whole by itself; one that was lost, doubled or moved shows by its number only.
      if (no !== place) why = new AppError("journal.corrupt", `${path}: record ${no} stands at place ${place}`);
      applyRecord(state, record);
    } catch (cause) {
      why = AppError.from(cause, "journal.corrupt");
    }
  }
  if (damage === "middle") why = new AppError("journal.corrupt", `${path} is damaged at byte ${end} of ${file.length}`);
  if (why === undefined && end > 0 && state.id === undefined)
    why = new AppError("journal.corrupt", `${path} does not begin with its id`);
  return { end, records: payloads.length, why };
}
