// A stop in named steps, one after the other, that comes to its end in any case. Invariant: when the time is over, what is
// left is named in the log and not waited for; the steps keep nothing that a crash at the same moment would lose.
import type { Clock } from "../shared/clock.ts";
import { describeError } from "../shared/errors.ts";
import type { Logger } from "../shared/logger.ts";

export interface StopStep {
  readonly name: string;
  readonly act: () => Promise<void> | void;
}

/** How long a step may take before the log says that it did. */
const slowMs = 2_000;

/** Resolves with what was left when `limitMs` were over: nothing, as a rule. Rejects with the first failure, after all steps. */
export async function stopInSteps(
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
  steps: readonly StopStep[],
  limitMs: number,
): Promise<readonly string[]> {
  const left = steps.map(({ name }) => name);
  const failures: unknown[] = [];
  const all = (async () => {
    for (const { name, act } of steps) {
      const fromMs = clock.monotonicMs();
      try {
        await act();
      } catch (cause) {
        failures.push(cause);
        logger.warn({ err: cause, step: name }, `stopping, ${name} failed: ${describeError(cause)}`);
      }
      left.shift();
      const tookMs = Math.round(clock.monotonicMs() - fromMs);
      if (tookMs > slowMs) logger.info({ step: name, tookMs }, `stopping, ${name} took ${tookMs} ms`);
    }
  })();
  const over = Promise.withResolvers<void>();
  const limit = clock.after(limitMs, () => over.resolve());
  await Promise.race([all, over.promise]);
  limit.cancel();
  if (left.length > 0) {
    logger.warn({ left }, `not stopped within ${limitMs} ms, and not waited for: ${left.join(", ")}`);
    return left;
  }
  if (failures.length > 0) throw failures[0];
  return [];
}
