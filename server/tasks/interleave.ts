// The pieces of both streams in the order the agent saw them. Invariants: each stream keeps its own order, whatever times an
// agent tells; a piece is held back while the other stream may have an earlier one that was not read yet.
import type { StoredPiece } from "../store/read-log.ts";

export interface ReadStream {
  readonly pieces: readonly StoredPiece[];
  /** Nothing more of this stream is stored after these. */
  readonly isWhole: boolean;
}

export function interleave(read: readonly ReadStream[]): StoredPiece[] {
  const sources = read.map(({ pieces, isWhole }) => ({ left: [...pieces], isWhole }));
  const merged: StoredPiece[] = [];
  for (;;) {
    const waiting = sources.filter(({ left }) => left.length > 0);
    // The end of what was read of one stream: what the other has from here on may be later than what comes next in this one.
    const isCut = sources.some(({ left, isWhole }) => left.length === 0 && !isWhole);
    const first = waiting.toSorted((one, other) => timeOf(one.left[0]) - timeOf(other.left[0]))[0];
    const next = first?.left.shift();
    if (next === undefined || (isCut && merged.length > 0)) return merged;
    merged.push(next);
  }
}

function timeOf(piece: StoredPiece | undefined): number {
  return piece?.atMs ?? -Infinity;
}
