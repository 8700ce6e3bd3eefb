// A log as one stream of bytes: everything stored when it is asked for, read in pieces so that memory stays flat.
import { Readable } from "node:stream";
import { startOfLog, type LogPosition } from "../../shared/api/task-events.ts";
import { AppError } from "../../shared/errors.ts";
import type { TaskId } from "../../shared/ids.ts";
import type { Stream } from "../../shared/task.ts";
import type { LogRead, TaskBackend } from "./backend.ts";
import { positionAfter, trimPiece } from "./log-pieces.ts";

const readBytes = 256 * 1024;

export interface LogDownload {
  readonly task: TaskId;
  readonly streams: readonly Stream[];
}

/** Reads the first part before it answers, so that an unknown task is still a 404 and not a broken download. */
export async function logDownload(tasks: TaskBackend, wanted: LogDownload): Promise<Readable> {
  const read = (from: LogPosition): Promise<LogRead | null> =>
    tasks.readLog({ task: wanted.task, from, streams: wanted.streams, limitBytes: readBytes });
  const first = await read(startOfLog);
  if (first === null) throw new AppError("task.unknown", `there is no task "${wanted.task}"`);
  return Readable.from(bytesOf(first, read), { objectMode: false });
}

async function* bytesOf(
  first: LogRead,
  read: (from: LogPosition) => Promise<LogRead | null>,
): AsyncGenerator<Uint8Array> {
  let position = startOfLog;
  for (let part: LogRead | null = first; part !== null && part.pieces.length > 0; part = await read(position)) {
    const before = position;
    for (const piece of part.pieces) {
      const rest = trimPiece(piece, position);
      if (rest === null) continue;
      position = positionAfter(rest, position);
      yield "bytes" in rest.content
        ? rest.content.bytes
        : Buffer.from(`\n[holdfast: ${rest.content.omitted} bytes omitted]\n`);
    }
    if (position.out === before.out && position.err === before.err) return;
  }
}
