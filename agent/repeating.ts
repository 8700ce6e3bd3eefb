// Does one act until it succeeds: what an attempt waits for must come to be, however often the host refuses it.
import type { Clock } from "../shared/clock.ts";

export interface RepeatingDeps {
  readonly clock: Clock;
  /** Ends the repeating; the promise then resolves without the act having been done. */
  readonly signal: AbortSignal;
  /** Told of the first failure and then of each {@link saidEach}th. */
  readonly onFailure: (cause: unknown) => void;
}

const repeatMs = 1_000;
/** A host out of descriptors for an hour is said 60 times, not 3,600. */
const saidEach = 60;

export async function repeatUntilDone(act: () => Promise<void>, deps: RepeatingDeps): Promise<void> {
  const { clock, signal, onFailure } = deps;
  for (let failures = 0; !signal.aborted; failures += 1) {
    try {
      await act();
      return;
    } catch (cause) {
      if (signal.aborted) return;
      if (failures % saidEach === 0) onFailure(cause);
    }
    await clock.sleep(repeatMs, signal).catch(() => undefined);
  }
}
