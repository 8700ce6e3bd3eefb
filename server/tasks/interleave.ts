// The pieces of both streams in the order the agent saw them. Invariants: each stream keeps its own order, whatever times an
// agent tells; a piece is held back while the other stream may have an earlier one that was not read yet.
import type { StoredPiece } from "../store/read-log.ts";

export interface ReadStream {
  readonly pieces: readonly StoredPiece[];
  /** Nothing more of this stream is stored after these. */
  readonly isWhole: boolean;
}

export function interleave(read: readonly ReadStream[]): StoredPiece[] {
  const sources = read.map(({ pieces, isWhole }) => ({ left: [...pieces], isWhole, taken: 0 }));
  const merged: StoredPiece[] = [];
  for (;;) {
    const waiting = sources.filter(({ left }) => left.length > 0);
    // Without times they take turns, for neither is to wait for the other's end.
    const [first] = waiting.toSorted(
      (one, other) => timeOf(one.left[0]) - timeOf(other.left[0]) || one.taken - other.taken,
    );
    const next = first?.left[0];
    if (first === undefined || next === undefined) return merged;
    // The end of what was read of one stream: what the other has from here on may be later than what comes next in this one.
    const isCut = sources.some(({ left, isWhole }) => left.length === 0 && !isWhole);
    if (isCut && merged.length > 0 && next.atMs !== null) return merged;
    first.left.shift();
    first.taken += 1;
    merged.push(next);
  }
}

/** Pieces without one come first; not -Infinity, of which two have no difference. */
function timeOf(piece: StoredPiece | undefined): number {
  return piece?.atMs ?? -1;
}
