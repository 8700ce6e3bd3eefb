// Turns what went wrong with a request into AppError: the server's problem answers by their code, everything between
// (no connection, a load balancer's own page) as `cluster.unreachable`.
import { problemSchema } from "../shared/api/problem.ts";
import { AppError, describeError, errnoOf, isErrorCode } from "../shared/errors.ts";

/** Reads the body of an answer that is not 2xx. */
export async function errorOf(response: Response): Promise<AppError> {
  const retryAfterSeconds = secondsOf(response.headers.get("retry-after"));
  const after = retryAfterSeconds === undefined ? {} : { retryAfterSeconds };
  const problem = problemSchema.safeParse(await jsonOf(response));
  if (problem.success) {
    const { code, message, mend, requestId } = problem.data;
    if (isErrorCode(code))
      return new AppError(code, code === "internal" ? `${message} (request ${requestId})` : message, {
        mend,
        ...after,
      });
    // A newer server may know more codes; its status still says whether trying again makes sense.
    return new AppError(
      response.status === 503 ? "cluster.unreachable" : "internal",
      `${code}: ${message} (request ${requestId})`,
      { mend, ...after },
    );
  }
  const seen = `status ${response.status} without a Holdfast answer`;
  if (response.status === 429) return new AppError("rate.limited", seen, after);
  if (response.status >= 502 && response.status <= 504) return new AppError("cluster.unreachable", seen, after);
  return new AppError("internal", seen, { mend: "Check that the URL is that of a Holdfast server." });
}

/** A request that got no answer at all. */
export function unreachable(url: string, cause: unknown): AppError {
  const inner = cause instanceof Error && cause.cause !== undefined ? cause.cause : cause;
  if (errnoOf(inner) === "ERR_SSL_WRONG_VERSION_NUMBER")
    return new AppError("cluster.unreachable", `${url}: there is no TLS on this port`, {
      mend: "If the server's API is plain HTTP there, write http:// instead of https://.",
      cause,
    });
  return new AppError("cluster.unreachable", `no answer from ${url}: ${describeError(inner)}`, { cause });
}

async function jsonOf(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch {
    return undefined;
  }
}

function secondsOf(header: string | null): number | undefined {
  return header !== null && /^\d{1,6}$/.test(header) ? Number(header) : undefined;
}
