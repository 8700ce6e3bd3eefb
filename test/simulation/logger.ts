// What shipped code logs goes into the trace; background work that fails for a reason nobody foresaw ends the run.
import type { Logger } from "../../shared/logger.ts";
import type { SimProcess } from "./kernel/process.ts";

export class SimLogger {
  /** Told of errors that are no AppError: programming mistakes in shipped code. */
  readonly #onDefect: (cause: unknown) => void;

  constructor(onDefect: (cause: unknown) => void) {
    this.#onDefect = onDefect;
  }

  of(process: SimProcess): Logger {
    const line = (level: string, fields: object, message: string): void => {
      if (!process.isUp) return;
      process.world.note(`${process.name} ${level}: ${message}`);
      const cause = "err" in fields ? fields.err : undefined;
      if (cause instanceof Error && ["TypeError", "RangeError", "ReferenceError", "SyntaxError"].includes(cause.name))
        this.#onDefect(cause);
    };
    const logger: Logger = {
      debug: (fields, message) => line("debug", fields, message),
      info: (fields, message) => line("info", fields, message),
      warn: (fields, message) => line("warn", fields, message),
      error: (fields, message) => line("error", fields, message),
      child: () => logger,
    };
    return logger;
  }
}
