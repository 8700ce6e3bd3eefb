// Waits for the turn of an update at a folder of versions: agents that share the folder may be asked to update at once, and two
// at work would each take the other's version for the one that works. Invariant: whoever returns holds the lock.
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { DataLock } from "../data-lock.ts";

export interface TurnDeps {
  readonly clock: Pick<Clock, "monotonicMs" | "sleep">;
  readonly tell: (line: string) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

const lookMs = 500;
/** As long as another one's download and trials may take at most on a fair line. */
const lockWaitMs = 900_000;

/** Rejects with `journal.locked` when the other has not come to its end after `waitMs`, with the signal's reason when told to. */
export async function takeTurn(
  lock: Pick<DataLock, "start">,
  { clock, tell, signal }: TurnDeps,
  waitMs = lockWaitMs,
): Promise<void> {
  const endMs = clock.monotonicMs() + waitMs;
  for (let tries = 0; ; tries += 1) {
    try {
      return await lock.start();
    } catch (cause) {
      if (AppError.from(cause).code !== "journal.locked" || clock.monotonicMs() >= endMs) throw cause;
      if (tries === 0) await tell("another update of this executable is under way; waiting for its end");
      await clock.sleep(lookMs, signal);
    }
  }
}
