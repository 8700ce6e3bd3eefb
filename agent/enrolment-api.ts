// The two HTTP exchanges of enrolment, and what their answers tell of the server's clock. Believes nothing it is told:
// certs/enrolment-proof.ts verifies. Redirects are refused, for they would lead to a server that nobody named.
// Invariant: whoever answers costs this machine no more than the time-out and `answerBytes` of memory.
import type { Clock } from "../shared/clock.ts";
import { AppError, describeError, errnoOf, isErrorCode } from "../shared/errors.ts";
import { serverAheadMs } from "./clock-offset.ts";

/** An answer with 256 nodes of 16 addresses takes a quarter of it. */
const answerBytes = 4 * 1024 * 1024;

export interface EnrolmentApiDeps {
  readonly fetch: typeof fetch;
  readonly clock: Pick<Clock, "wallMs">;
}

export interface EnrolmentApiOptions {
  readonly server: string;
  readonly timeoutMs: number;
}

export class EnrolmentApi {
  readonly #url: string;
  readonly #deps: EnrolmentApiDeps;
  readonly #timeoutMs: number;
  #serverAheadMs: number | undefined;

  constructor(deps: EnrolmentApiDeps, options: EnrolmentApiOptions) {
    if (!URL.canParse("/api/v1/enrolment", options.server))
      throw new AppError("config.invalid", `--server: ${options.server} is no URL`);
    this.#url = new URL("/api/v1/enrolment", options.server).href;
    this.#deps = deps;
    this.#timeoutMs = options.timeoutMs;
  }

  /** By the last answer's Date header: how far the server's clock is ahead of this machine's. */
  get serverAheadMs(): number | undefined {
    return this.#serverAheadMs;
  }

  async call(method: "GET" | "POST", body?: object): Promise<unknown> {
    const { fetch: send, clock } = this.#deps;
    const headers = {
      accept: "application/json",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    };
    const signal = AbortSignal.timeout(this.#timeoutMs);
    const sentMs = clock.wallMs();
    let response: Response;
    let text: string;
    try {
      response = await send(this.#url, {
        method,
        headers,
        signal,
        redirect: "error",
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      this.#serverAheadMs = serverAheadMs(response.headers.get("date"), { sentMs, receivedMs: clock.wallMs() });
      text = await this.#textOf(response);
    } catch (cause) {
      throw cause instanceof AppError ? cause : unanswered(this.#url, cause);
    }
    const value = jsonOf(text);
    if (response.ok) return value;
    throw problemOf(value, `${this.#url} answered ${response.status}`);
  }

  async #textOf({ body }: Response): Promise<string> {
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    // Leaving the loop ends the connection.
    for await (const piece of body ?? []) {
      bytes += piece.length;
      if (bytes > answerBytes)
        throw new AppError("enrolment.untrusted", `${this.#url} answered more than ${answerBytes} bytes`, {
          mend: "Check that the URL names a Holdfast server's API, not another program.",
        });
      pieces.push(piece);
    }
    return Buffer.concat(pieces).toString("utf8");
  }
}

function unanswered(url: string, cause: unknown): AppError {
  const inner = cause instanceof Error && cause.cause !== undefined ? cause.cause : cause;
  if (errnoOf(inner) === "ERR_SSL_WRONG_VERSION_NUMBER")
    return new AppError("cluster.unreachable", `${url}: there is no TLS on this port`, {
      mend: "If the server's API is plain HTTP there, write http:// instead of https://.",
      cause,
    });
  return new AppError("cluster.unreachable", `${url}: ${describeError(inner)}`, { cause });
}

function jsonOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch {
    return undefined;
  }
}

/** The server's own words, when it sent some; before the pin is verified they are shown, never acted on. */
function problemOf(value: unknown, fallback: string): AppError {
  if (typeof value !== "object" || value === null || !("code" in value) || !("message" in value))
    return new AppError("cluster.unreachable", fallback);
  const { code, message } = value;
  const mend = "mend" in value && typeof value.mend === "string" ? value.mend : undefined;
  if (typeof code !== "string" || typeof message !== "string" || !isErrorCode(code))
    return new AppError("cluster.unreachable", fallback);
  return new AppError(code, message, mend === undefined ? {} : { mend });
}
