// An agent that starts and finds the note of an update with nobody at work was left on trial: whoever watched it was killed, or
// the host went down. It watches itself: it keeps its version once it has a session, else it points `current` back and ends,
// so that its supervisor starts the earlier one. Invariant: while an update is at work, nothing is touched. A version that
// does not even come this far cannot help itself.
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { Logger } from "../../shared/logger.ts";
import { DataLock, readLockHolder } from "../data-lock.ts";
import { currentVersion, executableFolderOf, pointCurrent } from "../executable-folder.ts";
import { dropNote, lockPathIn, readNote, type UpdateNote } from "./note.ts";
import { steadyMs } from "./step.ts";

/** As `agent update` gives a new version by default. */
const trialMs = 60_000;
const lookMs = 500;

export interface PendingLook {
  readonly note: UpdateNote | undefined;
  /** An update is at work. */
  readonly isWatched: boolean;
  /** The version of this process. */
  readonly runs: string;
  /** Whether this process has a session with a node. */
  readonly greeted: boolean;
  readonly nowMs: number;
}

/** Since when it is looked at with nobody at work, and since when it has had a session. */
export interface Trial {
  readonly sinceMs: number;
  readonly greetedMs: number | undefined;
}

export type PendingVerdict =
  | { readonly kind: "wait"; readonly trial: Trial | undefined }
  /** No update is pending. */
  | { readonly kind: "settled" }
  /** This version has proven itself. */
  | { readonly kind: "keep" }
  /** `current` is to be the earlier version; `end` when this process is not that. */
  | { readonly kind: "go-back"; readonly then: "go-on" | "end" };

export function judgePending(trial: Trial | undefined, look: PendingLook): PendingVerdict {
  const { note, runs, nowMs } = look;
  if (note === undefined) return { kind: "settled" };
  if (look.isWatched) return { kind: "wait", trial: undefined };
  // The switch was cut off before the restart, or this one was brought back: the other was never proven.
  if (runs !== note.to) return { kind: "go-back", then: "go-on" };
  const { sinceMs } = trial ?? { sinceMs: nowMs };
  const greetedMs = look.greeted ? (trial?.greetedMs ?? nowMs) : undefined;
  if (greetedMs !== undefined && nowMs - greetedMs >= steadyMs) return { kind: "keep" };
  // A session that opened in time is watched to the end of its trial.
  if (greetedMs === undefined && nowMs - sinceMs >= trialMs)
    return note.from === note.to ? { kind: "keep" } : { kind: "go-back", then: "end" };
  return { kind: "wait", trial: { sinceMs, greetedMs } };
}

export interface PendingDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly greeted: () => boolean;
  readonly signal: AbortSignal;
}

/** Resolves with why this process is to end, or undefined once nothing is pending. */
export async function watchPending(
  deps: PendingDeps,
  { executable, hostBootId }: { readonly executable: string; readonly hostBootId: string },
): Promise<AppError | undefined> {
  const own = executableFolderOf(executable);
  if (own === undefined) return undefined;
  const { clock, signal } = deps;
  const folder = own.path;
  const look = async (): Promise<PendingLook> => ({
    note: await readNote(folder),
    isWatched: readLockHolder(lockPathIn(folder), hostBootId) !== undefined,
    runs: own.version,
    greeted: deps.greeted(),
    nowMs: clock.monotonicMs(),
  });
  let trial: Trial | undefined;
  while (!signal.aborted) {
    const verdict = judgePending(trial, await look());
    if (verdict.kind === "settled") return undefined;
    if (verdict.kind === "wait") {
      trial = verdict.trial;
      await clock.sleep(lookMs, signal).catch(() => undefined);
      continue;
    }
    const lock = new DataLock({ path: lockPathIn(folder), hostBootId });
    try {
      await lock.start();
    } catch {
      // An update began in this moment.
      trial = undefined;
      continue;
    }
    try {
      return await conclude(deps, { folder, runs: own.version, verdict });
    } finally {
      await lock.stop();
    }
  }
  return undefined;
}

interface Conclusion {
  readonly folder: string;
  readonly runs: string;
  readonly verdict: Extract<PendingVerdict, { readonly kind: "keep" | "go-back" }>;
}

async function conclude({ logger }: PendingDeps, { folder, runs, verdict }: Conclusion): Promise<AppError | undefined> {
  const note = await readNote(folder);
  if (note === undefined) return undefined;
  if (verdict.kind === "keep") {
    logger.info({ version: runs }, "an update that was cut off is kept: this version is connected");
    await dropNote(folder);
    return undefined;
  }
  if ((await currentVersion(folder)) === note.to) await pointCurrent(folder, note.from);
  await dropNote(folder);
  if (verdict.then === "go-on") {
    logger.warn({ from: note.from, to: note.to }, "an update was cut off: the earlier version stays");
    return undefined;
  }
  return new AppError(
    "update.rolled-back",
    `an update to ${note.to} was cut off, and this version has no session with a node; the next start runs ${note.from}`,
  );
}
