// Cuts what a log read answers to exactly what a reader at a position lacks. Pure. Invariant: the pieces that come out
// touch each other and the position without overlap, so no byte is sent twice.
import type { LogPosition } from "../../shared/api/task-events.ts";
import type { LogPiece } from "./backend.ts";

/** Null when the reader has all of the piece. */
export function trimPiece(piece: LogPiece, position: LogPosition): LogPiece | null {
  const surplus = position[piece.stream] - piece.offset;
  if (surplus <= 0) return piece;
  if (surplus >= lengthOf(piece)) return null;
  const content =
    "bytes" in piece.content
      ? { bytes: piece.content.bytes.subarray(surplus) }
      : { omitted: piece.content.omitted - surplus };
  return { ...piece, offset: position[piece.stream], content };
}

export function positionAfter(piece: LogPiece, position: LogPosition): LogPosition {
  return { ...position, [piece.stream]: piece.offset + lengthOf(piece) };
}

export function lengthOf(piece: LogPiece): number {
  return "bytes" in piece.content ? piece.content.bytes.length : piece.content.omitted;
}
