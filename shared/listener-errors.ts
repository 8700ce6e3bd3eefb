// What a server that listens does when a connection cannot be taken: it says so and goes on (fault 17). Accepting fails
// for want of descriptors or memory, which is over once others close; without a handler Node ends the process.
import type { Clock } from "./clock.ts";
import { describeError, errnoOf } from "./errors.ts";
import type { Logger } from "./logger.ts";

/** Each connection that waits fails again, so an alarm is given at most this often and tells how many it stands for. */
const alarmMs = 10_000;

/** What is needed of a `net.Server` that listens already. */
export interface ListeningServer {
  on(event: "error", failed: (cause: Error) => void): unknown;
}

export interface ListenerErrorsDeps {
  readonly logger: Logger;
  readonly clock: Clock;
}

/** Sessions and connections that are open stay as they are. `name` is for the log. */
export function outliveErrors(server: ListeningServer, { logger, clock }: ListenerErrorsDeps, name: string): void {
  let quietUntilMs = -Infinity;
  let failures = 0;
  server.on("error", (cause) => {
    failures += 1;
    const nowMs = clock.monotonicMs();
    if (nowMs < quietUntilMs) return;
    logger.error(
      { code: errnoOf(cause), failures },
      `the ${name} cannot take a connection, those it has stay: ${describeError(cause)}`,
    );
    quietUntilMs = nowMs + alarmMs;
    failures = 0;
  });
}
