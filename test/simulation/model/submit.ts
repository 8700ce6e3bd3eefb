// submit-tasks.ts on the model: submission, tasks, attempts and logs in one statement; the earlier one when the key is taken.
import { bands, type NewSubmission, type SubmitOutcome } from "../../../server/store/submit-tasks.ts";
import type { AttemptId } from "../../../shared/ids.ts";
import type { ModelDatabase } from "./database.ts";
import type { AttemptRow, TaskRow } from "./rows.ts";

const keyOf = ({ principal, idempotencyKey }: Pick<NewSubmission, "principal" | "idempotencyKey">): string =>
  `${principal}\0${idempotencyKey}`;

export function submitTasks(db: ModelDatabase, batch: readonly NewSubmission[]): SubmitOutcome[] {
  const first = batch[0];
  // The statement inserts in the order of its key, and of two with one key the first stays.
  const sorted = batch.toSorted((a, b) => compare(keyOf(a), keyOf(b)) || compare(a.id, b.id));
  const inserted = new Set<string>();
  for (const submission of sorted) {
    const key = keyOf(submission);
    if (db.submissionKeys.get(key) !== undefined) continue;
    db.submissionKeys.put(key, submission.id);
    const { id, principal, idempotencyKey, bodySha256 } = submission;
    db.submissions.put(id, { id, principal, idempotencyKey, bodySha256: Buffer.from(bodySha256).toString("hex") });
    inserted.add(id);
  }
  const offered = new Map<string, Set<AttemptId>>();
  for (const submission of batch) {
    if (!inserted.has(submission.id)) continue;
    offered.set(submission.id, storeTasks(db, submission, first));
  }
  return batch.map((submission): SubmitOutcome => {
    const stored = offered.get(submission.id);
    if (stored !== undefined) return { kind: "stored", offered: stored };
    const [row] = readEarlier(db, [submission]);
    if (row === undefined || row.bodySha256 !== Buffer.from(submission.bodySha256).toString("hex"))
      return { kind: "mismatch" };
    return { kind: "repeated", id: row.id, tasks: row.tasks };
  });
}

function storeTasks(db: ModelDatabase, submission: NewSubmission, first: NewSubmission | undefined): Set<AttemptId> {
  const offered = new Set<AttemptId>();
  for (const { task, attempt, agent, lane, band, spec, queueMs, unreachableLimitMs, offer } of submission.tasks) {
    const row = offer === undefined ? undefined : db.agents.get(agent);
    const isOffered =
      offer !== undefined &&
      row?.status === "active" &&
      row.isPaused !== true &&
      row.bootId === offer.bootId &&
      row.journalId === offer.journalId &&
      db.cluster.get("one")?.paused !== true;
    const graceMs = graceOf(spec);
    const times = { createdAtMs: db.nowMs, expiresAtMs: db.nowMs + queueMs };
    db.tasks.put(task, {
      id: task,
      submission: submission.id,
      agent,
      lane,
      spec,
      graceMs,
      ...lockOf(spec),
      unreachableLimitMs,
      ...times,
    });
    newAttempt(db, {
      attempt,
      task,
      agent,
      lane,
      band: band ?? bands.normal,
      number: 1,
      expiresAtMs: times.expiresAtMs,
    });
    const queued = db.attempts.get(attempt);
    if (!isOffered || queued === undefined) continue;
    db.attempts.put(attempt, {
      ...queued,
      rank: 1,
      state: "offered",
      offerNo: 1,
      journalId: offer.journalId,
      offeredBy: first?.node ?? null,
      offerUntilMs: db.nowMs + (first?.offerWindowMs ?? 0),
    });
    offered.add(attempt);
  }
  return offered;
}

/** A queued attempt with its log. */
export function newAttempt(
  db: ModelDatabase,
  row: Pick<AttemptRow, "task" | "agent" | "lane" | "number" | "expiresAtMs"> & {
    readonly attempt: AttemptId;
    readonly band?: AttemptRow["band"] | undefined;
  },
): void {
  const { attempt, ...given } = row;
  const log = { homeNo: 0, closed: false, next: { out: 0, err: 0 }, chunks: { out: [], err: [] } };
  db.logs.put(attempt, { attempt, agent: row.agent, ...log });
  db.attempts.put(attempt, {
    ...given,
    id: attempt,
    rank: 0,
    state: "queued",
    reason: "",
    band: row.band ?? bands.normal,
    queueNo: db.nextQueueNo(),
    offerNo: 0,
    journalId: null,
    offeredBy: null,
    offerUntilMs: null,
    unanswered: 0,
    cancelRequested: false,
    homeNode: null,
    exitCode: null,
    signal: null,
    result: null,
    resultSha256: null,
    createdAtMs: db.nowMs,
    acceptedAtMs: null,
    startedAtMs: null,
    finishedAtMs: null,
  });
}

export function readEarlier(db: ModelDatabase, keys: readonly Pick<NewSubmission, "principal" | "idempotencyKey">[]) {
  return keys.flatMap((key) => {
    const id = db.submissionKeys.get(keyOf(key));
    const row = id === undefined ? undefined : db.submissions.get(id);
    if (row === undefined) return [];
    const tasks = [...db.tasks.rows.values()]
      .filter((task) => task.submission === row.id)
      .map((task) => ({ id: task.id, agent: task.agent }))
      .toSorted((a, b) => compare(a.id, b.id));
    return [{ id: row.id, bodySha256: row.bodySha256, tasks }];
  });
}

function graceOf(spec: string): number {
  const parsed: unknown = JSON.parse(spec);
  return typeof parsed === "object" && parsed !== null && "graceMs" in parsed && typeof parsed.graceMs === "number"
    ? parsed.graceMs
    : 0;
}

function lockOf(spec: string): Pick<TaskRow, "lockName" | "lockMode"> {
  const { kind, isolation } = JSON.parse(spec) as {
    readonly kind: string;
    readonly isolation?: { readonly name?: string; readonly mode?: TaskRow["lockMode"] };
  };
  const lockMode = isolation?.mode ?? "none";
  return { lockName: kind === "script" ? (isolation?.name ?? "default") : null, lockMode };
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
