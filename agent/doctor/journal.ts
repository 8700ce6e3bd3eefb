// Doctor's look at the journal: whole, torn or damaged, and what is open in it. Reads the file without its lock and without
// changing it, also while an agent writes it.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { AppError, errnoOf } from "../../shared/errors.ts";
import type { JournalFold } from "../journal-fold.ts";
import { foldJournal } from "../journal-fold.ts";
import type { JournalState } from "../journal-state.ts";
import { emptyJournalState } from "../journal-state.ts";
import type { CheckRow } from "./check-row.ts";
import { failed, noted, passed } from "./check-row.ts";
import { asReadable } from "./files.ts";

interface Reading extends JournalFold {
  readonly bytes: number;
  readonly state: JournalState;
}

const quarantineMend = (path: string): string =>
  `The agent is in quarantine: it delivers the results it can read, takes no work and starts no script a second time. ` +
  `Let it run until nothing of it is open, stop it, keep a copy of ${path}, then register with a token of ` +
  "`holdfast tokens create --replace NAME` into a fresh --data-dir.";

export async function checkJournal(dataPath: string): Promise<CheckRow> {
  const path = join(dataPath, "journal");
  try {
    const first = await read(path);
    // What a running agent was just writing or rewriting is not damage: that is still there a moment later.
    const reading = first?.why === undefined ? first : await read(path);
    if (reading === undefined) return noted("journal", { seen: "none yet: the agent's first start makes it" });
    return rowOf(path, reading);
  } catch (cause) {
    const { message, mend } = asReadable(cause);
    return failed("journal", { seen: message, mend });
  }
}

async function read(path: string): Promise<Reading | undefined> {
  const file = await readFile(path).catch((cause: unknown) => {
    if (errnoOf(cause) === "ENOENT") return undefined;
    throw AppError.from(cause);
  });
  if (file === undefined) return undefined;
  const state = emptyJournalState();
  return { ...foldJournal(state, file, path), bytes: file.length, state };
}

function rowOf(path: string, { bytes, end, why, state }: Reading): CheckRow {
  const openAttempts = state.open.size;
  const tornBytes = why === undefined ? bytes - end : 0;
  const detail = {
    bytes,
    tornBytes,
    damagedAt: why === undefined ? null : end,
    journalId: state.id ?? null,
    bootCounter: state.boot?.counter ?? null,
    openAttempts,
    acknowledged: state.acknowledged.size,
    closed: state.closed.size,
  };
  const what = `${bytes} bytes, ${openAttempts} open attempts, boot ${state.boot?.counter ?? "none"}`;
  if (why !== undefined) {
    const isLost = state.id === undefined || state.boot === undefined;
    const mend = isLost
      ? `The agent does not start with it (78): its id is lost. Keep a copy of ${path}, then register into a fresh --data-dir.`
      : quarantineMend(path);
    return failed("journal", { seen: `${why.message}; readable: ${what}`, mend, detail });
  }
  if (tornBytes > 0) {
    const seen = `${what}; a torn tail of ${tornBytes} bytes, never acknowledged to anybody, is dropped at the next start`;
    return noted("journal", { seen, detail });
  }
  return passed("journal", { seen: what, detail });
}
