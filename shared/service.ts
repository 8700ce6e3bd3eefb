// The life of anything long-lived: nothing starts in a constructor, owners stop what they started in reverse order.

export interface Service {
  /** Resolves when usable; throws AppError when it cannot become so, having undone what it began. */
  start(): Promise<void>;
  /** Ends it and everything it started; idempotent; resolves when no socket, timer, process or promise is left. */
  stop(): Promise<void>;
}

/** Starts services in order; when one fails, stops those already started in reverse and throws its error. */
export async function startAll(services: readonly Service[]): Promise<void> {
  const started: Service[] = [];
  for (const service of services) {
    try {
      await service.start();
      started.push(service);
    } catch (cause) {
      await stopAll(started);
      throw cause;
    }
  }
}

/** Stops services in reverse order; every one is stopped even when one fails, then the first failure is thrown. */
export async function stopAll(services: readonly Service[]): Promise<void> {
  const failures: unknown[] = [];
  for (const service of services.toReversed()) {
    try {
      await service.stop();
    } catch (cause) {
      failures.push(cause);
    }
  }
  if (failures.length > 0) throw failures[0];
}
