// Reads the end of a run: the database's rows, the scripts' files and the agents' journals. Changes nothing.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { foldJournal } from "../../agent/journal-fold.ts";
import { scanJournal } from "../../agent/journal-frame.ts";
import { decodeRecord } from "../../agent/journal-record.ts";
import { emptyJournalState } from "../../agent/journal-state.ts";
import { taskStates } from "../../shared/task.ts";
import { queryRows } from "../harness/query.ts";
import { truthLines, type TruthLine } from "../harness/script-truth.ts";
import type { JournalFacts, StoredAttempt, StoredTask, Submitted } from "./history.ts";

const taskSchema = z.object({ id: z.string(), submission: z.string(), key: z.string() });
const attemptSchema = z.object({
  id: z.string(),
  task: z.string(),
  number: z.int(),
  state: z.enum(taskStates),
  reason: z.string(),
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  hasResult: z.boolean(),
  createdAtMs: z.number(),
  finishedAtMs: z.number().nullable(),
  out: z.string(),
  err: z.string(),
  outNext: z.number(),
  lateResults: z.number(),
});

const streamOf = (no: number): string =>
  `coalesce((select string_agg(coalesce(convert_from(content, 'UTF8'), U&'\\FFFC'), '' order by start_offset)
     from log_chunk where attempt_id = a.id and stream = ${no}), '')`;

export async function readTasks(url: string): Promise<readonly StoredTask[]> {
  const rows = await queryRows(
    url,
    `select t.id::text, t.submission_id::text as submission, s.idempotency_key as key
       from task t join submission s on s.id = t.submission_id`,
  );
  return z.array(taskSchema).parse(rows);
}

export async function readAttempts(url: string): Promise<readonly StoredAttempt[]> {
  const rows = await queryRows(
    url,
    `select a.id::text, a.task_id::text as task, a.number, a.state, a.reason, a.exit_code as "exitCode", a.signal,
            a.result is not null as "hasResult",
            extract(epoch from a.created_at)::float8 * 1000 as "createdAtMs",
            extract(epoch from a.finished_at)::float8 * 1000 as "finishedAtMs",
            ${streamOf(0)} as out, ${streamOf(1)} as err,
            coalesce((select out_next from attempt_log where attempt_id = a.id), 0)::float8 as "outNext",
            (select count(*) from late_result where attempt_id = a.id)::int as "lateResults"
       from attempt a`,
  );
  return z.array(attemptSchema).parse(rows);
}

/** Tasks that are not final, with their state. */
export async function readOpen(url: string): Promise<ReadonlyMap<string, string>> {
  const rows = await queryRows(url, "select task_id::text as task, state from attempt where rank < 9");
  return new Map(rows.map((row) => [String(row["task"]), String(row["state"])]));
}

export async function readTruths(submitted: readonly Submitted[]): Promise<ReadonlyMap<string, readonly TruthLine[]>> {
  const truths = new Map<string, readonly TruthLine[]>();
  for (const { key, truth } of submitted) {
    // No file: it never started.
    const text = await readFile(truth, "utf8").catch(() => "");
    truths.set(key, truthLines(text));
  }
  return truths;
}

export async function readJournal(agent: string, dataDirectory: string): Promise<JournalFacts> {
  const path = join(dataDirectory, "journal");
  const file = await readFile(path);
  const state = emptyJournalState();
  const { why } = foldJournal(state, file, path);
  const records = why === undefined ? scanJournal(file).payloads.map((payload) => decodeRecord(payload)) : [];
  const started = new Set<string>();
  // A journal is rewritten when it is large or its disk is full: of what is over it keeps the result, later only the id.
  // Without room for the shim's signature the moment of the start is unknown; an exit code or a signal says that there was one.
  for (const [attempt, { result }] of state.acknowledged)
    if ([result?.startedAtMs, result?.exitCode, result?.signal].some((fact) => fact !== undefined && fact !== null))
      started.add(attempt);
  for (const [attempt, refusal] of state.closed) if (refusal === undefined) started.add(attempt);
  const results: JournalFacts["results"][number][] = [];
  for (const record of records) {
    if (record.kind === "starting") started.add(record.attempt);
    if (record.kind === "intent" && record.startingOn !== undefined) started.add(record.facts.attempt);
    if (record.kind !== "result") continue;
    const { outcome, exitCode } = record.record;
    results.push({ attempt: record.attempt, outcome, exitCode });
  }
  return { agent, damage: why?.message, open: [...state.open.keys()], started, results };
}
