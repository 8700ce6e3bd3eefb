// What one agent's scripts say of how far they are, on its way to the database: the newest of each attempt, apart from the
// line of that attempt's log and result, so that nothing waits for it. Invariant: one write of each attempt under way, and
// at most one in each pause: what an agent says too often replaces what waits, and what finds no place in the bounded map is
// dropped. What has a place costs a statement, also for an attempt that is not this agent's: whose it is, the statement says.
import type { Background } from "../../shared/background.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { AgentId, AttemptId, JournalId } from "../../shared/ids.ts";
import type { Logger } from "../../shared/logger.ts";
import type { ProgressItem } from "../../shared/wire/progress.ts";
import type { ProgressNote } from "../store/note-progress.ts";
import type { CourierStore } from "../store/store.ts";

export interface ProgressNotesDeps {
  readonly store: Pick<CourierStore, "noteProgress">;
  readonly clock: Clock;
  readonly background: Background;
  readonly logger: Logger;
  /** Aborts when the session ends: the agent tells its next home again. */
  readonly signal: AbortSignal;
  readonly onStored: (attempt: AttemptId) => void;
}

/** An honest agent says something of one attempt about once a second; what comes sooner waits, and the newest goes. */
const pauseMs = 250;
/** While the database is away. */
const retryMs = 1_000;
/** More than an agent has slots for. What is said of others meanwhile is not kept. */
const mostWaiting = 1_024;

export class ProgressNotes {
  readonly #deps: ProgressNotesDeps;
  readonly #waiting = new Map<AttemptId, ProgressNote>();
  #state: "idle" | "writing" = "idle";

  constructor(deps: ProgressNotesDeps) {
    this.#deps = deps;
  }

  note(items: readonly ProgressItem[], by: { readonly agent: AgentId; readonly journalId: JournalId }): void {
    for (const { attempt, homeNo, percent, message } of items) {
      if (this.#waiting.size >= mostWaiting && !this.#waiting.has(attempt)) continue;
      this.#waiting.set(attempt, { ...by, attempt, homeNo, percent, message });
    }
    if (this.#state === "writing") return;
    this.#state = "writing";
    this.#deps.background.run("progress notes", () => this.#drain());
  }

  async #drain(): Promise<void> {
    const { clock, signal } = this.#deps;
    while (this.#waiting.size > 0 && !signal.aborted) {
      const notes = [...this.#waiting.values()];
      this.#waiting.clear();
      const outcomes = await Promise.all(notes.map((note) => this.#write(note)));
      await clock.sleep(outcomes.includes("again") ? retryMs : pauseMs, signal).catch(() => undefined);
    }
    this.#state = "idle";
  }

  async #write(note: ProgressNote): Promise<"done" | "again"> {
    const { store, logger, onStored } = this.#deps;
    try {
      await store.noteProgress(note);
      onStored(note.attempt);
      return "done";
    } catch (cause) {
      const error = AppError.from(cause);
      if (!error.retryable) {
        logger.warn({ err: error, attempt: note.attempt }, "a script's progress was not stored");
        return "done";
      }
      // A script may not speak again for hours.
      if (!this.#waiting.has(note.attempt)) this.#waiting.set(note.attempt, note);
      return "again";
    }
  }
}
