// Folds a journal's bytes into a state and says what is wrong with them. Changes no file: the agent opens its journal with
// it, and doctor looks at one that an agent is writing. Invariant: what can be read is in the state, also of a damaged file.
import { AppError } from "../shared/errors.ts";
import { scanJournal } from "./journal-frame.ts";
import { decodeRecord } from "./journal-record.ts";
import type { JournalState } from "./journal-state.ts";
import { applyRecord } from "./journal-state.ts";

export interface JournalFold {
  /** Where whole records end; what is behind is a torn tail, which nobody was ever told of, or damage. */
  readonly end: number;
  /** `journal.corrupt`: damage other than a torn tail. The agent that finds it takes no work. */
  readonly why: AppError | undefined;
}

/** Adds to `state`; `path` is for the words. */
export function foldJournal(state: JournalState, file: Buffer, path: string): JournalFold {
  const { payloads, end, damage } = scanJournal(file);
  let why: AppError | undefined;
  for (const payload of payloads) {
    try {
      applyRecord(state, decodeRecord(payload));
    } catch (cause) {
      why = AppError.from(cause, "journal.corrupt");
    }
  }
  if (damage === "middle") why = new AppError("journal.corrupt", `${path} is damaged at byte ${end} of ${file.length}`);
  if (why === undefined && end > 0 && state.id === undefined)
    why = new AppError("journal.corrupt", `${path} does not begin with its id`);
  return { end, why };
}
