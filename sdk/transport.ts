// Sends one request: key, JSON, contract of the answer, and tries again what is safe to repeat (reads, and writes that carry
// an idempotency key or are idempotent by themselves) while the error says that it may succeed.
import type { z } from "zod";
import { createBackoff } from "../shared/backoff.ts";
import { AppError, type ErrorCode } from "../shared/errors.ts";
import type { Platform } from "./platform.ts";
import { errorOf, unreachable } from "./problem.ts";

export interface TransportOptions {
  /** Such as https://holdfast.example.com */
  readonly url: string;
  readonly apiKey: string;
  /** How long a repeatable request is tried again before its error is thrown; default 30 s. */
  readonly retryForMs: number;
  /** How long one try waits for its answer to begin; default 30 s. */
  readonly answerMs: number;
  /** Told about every failure that is tried again. */
  readonly onRetry: ((error: AppError) => void) | undefined;
}

export interface Call {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly repeatable: "repeatable" | "once";
  readonly signal?: AbortSignal | undefined;
}

/** What may succeed later all the same: who stopped, or asked not to wait for an agent, wants to hear of it now. */
const toldAtOnce: ReadonlySet<ErrorCode> = new Set(["aborted", "agent.offline"]);

export const retryBackoff = { baseMs: 200, capMs: 5_000 } as const;

export class Transport {
  readonly #platform: Platform;
  readonly #options: TransportOptions;
  readonly #base: string;

  constructor(platform: Platform, options: TransportOptions) {
    this.#platform = platform;
    this.#options = options;
    this.#base = baseOf(options.url);
  }

  get platform(): Platform {
    return this.#platform;
  }

  /** The answer as its contract has it. Throws AppError by the server's code. */
  async json<Schema extends z.ZodType>(schema: Schema, call: Call): Promise<z.output<Schema>> {
    const response = await this.response(call);
    const parsed = schema.safeParse(await this.#body(response));
    if (parsed.success) return parsed.data;
    const where = parsed.error.issues[0]?.path.join(".") ?? "";
    throw new AppError("protocol.unsupported", `the answer of ${call.path} has not the expected form at "${where}"`);
  }

  /** The answer once its headers are there, with a status of 2xx. */
  async response(call: Call): Promise<Response> {
    const { clock, random } = this.#platform;
    const backoff = createBackoff({ random }, retryBackoff);
    const deadlineMs = clock.monotonicMs() + this.#options.retryForMs;
    for (;;) {
      try {
        return await this.once(call);
      } catch (cause) {
        const error = AppError.from(cause);
        const delayMs = backoff.nextMs((error.retryAfterSeconds ?? 0) * 1_000);
        const tooLate = clock.monotonicMs() + delayMs > deadlineMs;
        // Refused before anybody looked at what was asked.
        const isOnce = call.repeatable === "once" && error.code !== "request.timed-out";
        if (isOnce || !error.retryable || toldAtOnce.has(error.code) || tooLate) throw error;
        this.#options.onRetry?.(error);
        await clock.sleep(delayMs, call.signal);
      }
    }
  }

  /** One try. */
  async once(call: Call): Promise<Response> {
    const slow = new AbortController();
    const timer = this.#platform.clock.after(this.#options.answerMs, () =>
      slow.abort(
        new AppError("operation.timed-out", `no answer from ${this.#base} within ${this.#options.answerMs} ms`),
      ),
    );
    const signal = call.signal === undefined ? slow.signal : AbortSignal.any([call.signal, slow.signal]);
    let response: Response;
    try {
      response = await this.#platform.fetch(this.#urlOf(call), {
        method: call.method,
        headers: {
          authorization: `Bearer ${this.#options.apiKey}`,
          ...(call.body === undefined ? {} : { "content-type": "application/json" }),
          ...call.headers,
        },
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
        signal,
      });
    } catch (cause) {
      if (call.signal?.aborted === true)
        throw new AppError("aborted", "the request was stopped", { cause: call.signal.reason });
      if (slow.signal.aborted)
        throw new AppError("operation.timed-out", `no answer from ${this.#base} within ${this.#options.answerMs} ms`);
      throw unreachable(this.#base, cause);
    } finally {
      timer.cancel();
    }
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  async #body(response: Response): Promise<unknown> {
    try {
      return await response.json();
    } catch (cause) {
      if (cause instanceof SyntaxError)
        throw new AppError("cluster.unreachable", `${this.#base} answered something that is no JSON`, {
          mend: "Check that the URL and its port are those of a Holdfast server's API.",
          cause,
        });
      throw unreachable(this.#base, cause);
    }
  }

  #urlOf(call: Call): string {
    const query = Object.entries(call.query ?? {}).flatMap(([name, value]) =>
      value === undefined ? [] : [`${encodeURIComponent(name)}=${encodeURIComponent(value)}`],
    );
    return `${this.#base}${call.path}${query.length === 0 ? "" : `?${query.join("&")}`}`;
  }
}

function baseOf(url: string): string {
  if (!URL.canParse(url) || !/^https?:/i.test(url)) {
    throw new AppError("config.invalid", `"${url}" is not a URL of the form https://host:port`);
  }
  return url.replace(/\/+$/, "");
}
