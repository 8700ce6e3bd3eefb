// progress-attempts.ts, append-log.ts, finish-attempts.ts and resume-attempts.ts on the model: what a home sends.
import { createHash } from "node:crypto";
import type { AppendOutcome, LogAppend, LogRun } from "../../../server/store/append-log.ts";
import { lateKept, type Finish, type FinishOutcome } from "../../../server/store/finish-attempts.ts";
import type { ProgressNote } from "../../../server/store/note-progress.ts";
import type { Progress, RowView } from "../../../server/store/progress-attempts.ts";
import type { ResumeHome, ResumeOutcome } from "../../../server/store/resume-attempts.ts";
import { storable } from "../../../server/store/rows.ts";
import { streams, type Stream } from "../../../shared/task.ts";
import type { ResultRecord } from "../../../shared/wire/result.ts";
import { lengthOf } from "../../../shared/wire/log.ts";
import { closeLog } from "./claim.ts";
import type { ModelDatabase } from "./database.ts";
import type { AttemptRow, Chunk, LogRow } from "./rows.ts";

export function progressAttempts(db: ModelDatabase, items: readonly Progress[]): RowView[] {
  return items.map((item): RowView => {
    const row = db.attempts.get(item.attempt);
    const log = db.logs.get(item.attempt);
    if (row?.agent !== item.agent || log === undefined) return { kind: "unknown" };
    if (row.journalId !== null && row.journalId !== item.journalId) return { kind: "unknown" };
    const reached = item.reached === "running" ? 3 : 2;
    if (!log.closed && log.homeNo < item.homeNo) db.logs.put(log.attempt, { ...log, homeNo: item.homeNo });
    let { state } = row;
    if (row.rank < 9 && (row.rank < reached || item.homeNo > log.homeNo)) {
      const rank = row.rank === 3 || reached === 3 ? 3 : 2;
      state = rank === 3 ? "running" : "accepted";
      const homeNode = item.node !== null && item.homeNo >= log.homeNo ? item.node : row.homeNode;
      db.attempts.put(row.id, {
        ...row,
        rank,
        state,
        journalId: item.journalId,
        homeNode,
        acceptedAtMs: row.acceptedAtMs ?? db.nowMs,
        startedAtMs: reached === 3 ? (row.startedAtMs ?? db.nowMs) : row.startedAtMs,
      });
    }
    return {
      kind: "row",
      state,
      cancelRequested: row.cancelRequested,
      graceMs: db.tasks.get(row.task)?.graceMs ?? 0,
      byAgent: row.result !== null,
      homeNo: log.closed ? log.homeNo : Math.max(log.homeNo, item.homeNo),
      out: log.next.out,
      err: log.next.err,
    };
  });
}

export function noteProgress(db: ModelDatabase, items: readonly ProgressNote[]): void {
  for (const item of items) {
    const row = db.attempts.get(item.attempt);
    const log = db.logs.get(item.attempt);
    if (row?.agent !== item.agent || row.journalId !== item.journalId || log === undefined) continue;
    if (row.rank === 0 || row.rank === 9 || log.homeNo > item.homeNo) continue;
    const { percent } = item;
    const message = storable(item.message);
    if (row.progress?.percent === percent && row.progress.message === message) continue;
    db.attempts.put(row.id, { ...row, progress: { percent, message, atMs: db.nowMs } });
  }
}

export function appendLog(db: ModelDatabase, items: readonly LogAppend[]): AppendOutcome[] {
  return items.map((item): AppendOutcome => {
    const log = db.logs.get(item.attempt);
    if (log?.agent !== item.agent) return { kind: "unknown" };
    const isHome = !log.closed && log.homeNo <= item.homeNo;
    const fits = (stream: Stream): boolean => {
      const run = item.runs[stream];
      return isHome && run !== undefined && endOf(run) > run.from && log.next[stream] === run.from;
    };
    const ok = { out: fits("out"), err: fits("err") };
    const next = { ...log.next };
    const chunks = { ...log.chunks };
    for (const stream of streams) {
      const run = item.runs[stream];
      if (!ok[stream] || run === undefined) continue;
      next[stream] = endOf(run);
      chunks[stream] = [...log.chunks[stream], ...chunksOf(run)];
    }
    const homeNo = ok.out || ok.err ? Math.max(log.homeNo, item.homeNo) : log.homeNo;
    if (ok.out || ok.err) db.logs.put(log.attempt, { ...log, homeNo, next, chunks } satisfies LogRow);
    return {
      kind: "row",
      closed: log.closed,
      homeNo: Math.max(log.homeNo, log.closed ? 0 : item.homeNo),
      next,
    };
  });
}

function endOf(run: LogRun): number {
  return run.pieces.reduce((end, piece) => end + lengthOf(piece), run.from);
}

function chunksOf(run: LogRun): Chunk[] {
  let offset = run.from;
  return run.pieces.map((piece) => {
    const chunk: Chunk = {
      offset,
      length: lengthOf(piece),
      content: "bytes" in piece ? piece.bytes : null,
      seenAtMs: piece.atMs ?? null,
    };
    offset += chunk.length;
    return chunk;
  });
}

function storableRecord({ record }: Finish): ResultRecord {
  const { reason, signal } = record;
  return { ...record, reason: storable(reason), signal: signal === null ? null : storable(signal) };
}

export function finishAttempts(db: ModelDatabase, items: readonly Finish[]): FinishOutcome[] {
  return items.map((item): FinishOutcome => {
    const row = db.attempts.get(item.attempt);
    const log = db.logs.get(item.attempt);
    if (row?.agent !== item.agent || log === undefined) return { kind: "unknown" };
    const record = storableRecord(item);
    const resultSha256 = createHash("sha256").update(JSON.stringify(record)).digest("hex");
    if (row.rank === 9 && row.resultSha256 === resultSha256) return { kind: "same" };
    // A null journal is no other journal: SQL's comparison with it is not true.
    if (row.rank === 9 || (row.journalId !== null && row.journalId !== item.journalId)) {
      const key = `${row.id}/${resultSha256}`;
      const kept = [...db.lateResults.rows.values()].filter(({ attempt }) => attempt === row.id).length;
      if (db.lateResults.get(key) === undefined && kept < lateKept)
        db.lateResults.put(key, { attempt: row.id, resultSha256, result: record, receivedAtMs: db.nowMs });
      return { kind: "late" };
    }
    if (log.next.out < record.out.length || log.next.err < record.err.length)
      return { kind: "behind", out: log.next.out, err: log.next.err, homeNo: log.homeNo };
    const ended: AttemptRow = {
      ...row,
      rank: 9,
      state: record.outcome,
      reason: record.reason,
      exitCode: record.exitCode,
      signal: record.signal,
      result: record,
      resultSha256,
      journalId: item.journalId,
      homeNode: row.homeNode ?? item.node,
      acceptedAtMs: row.acceptedAtMs ?? db.nowMs,
      startedAtMs: record.startedAtMs === null ? row.startedAtMs : (row.startedAtMs ?? db.nowMs),
      finishedAtMs: db.nowMs,
    };
    db.attempts.put(row.id, ended);
    closeLog(db, row.id);
    return { kind: "stored" };
  });
}

export function resumeAttempts(db: ModelDatabase, items: readonly ResumeHome[]): ResumeOutcome[] {
  return items.map((item): ResumeOutcome => {
    const row = db.attempts.get(item.attempt);
    const log = db.logs.get(item.attempt);
    if (row?.agent !== item.agent || log === undefined) return { kind: "unknown" };
    if (row.journalId !== null && row.journalId !== item.journalId) return { kind: "unknown" };
    const isMoving = !log.closed && log.homeNo < item.homeNo;
    if (isMoving) {
      db.logs.put(log.attempt, { ...log, homeNo: item.homeNo });
      if (row.rank < 9) {
        const isLower = row.rank < 2;
        db.attempts.put(row.id, {
          ...row,
          homeNode: item.node,
          journalId: item.journalId,
          rank: isLower ? 2 : row.rank,
          state: isLower ? "accepted" : row.state,
          acceptedAtMs: row.acceptedAtMs ?? db.nowMs,
        });
      }
    }
    return {
      kind: "row",
      homeNo: isMoving ? item.homeNo : log.homeNo,
      out: log.next.out,
      err: log.next.err,
      final: row.rank === 9,
      byAgent: row.result !== null,
    };
  });
}
