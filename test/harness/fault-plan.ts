// What a fault proxy does to one direction of a connection, as data; and frame counters for plain-text streams.

/** `reset` breaks both ways at once; `half-close` ends this direction only, as shutdown(SHUT_WR) does. */
export type CutAct = "reset" | "close" | "half-close" | "pause" | "black-hole";

export type CutPoint = { readonly bytes: number } | { readonly frames: number };

export interface LanePlan {
  /** `pause` reads nothing, so that the sender meets back pressure; `black-hole` reads and drops. Default `pass`. */
  readonly flow?: "pass" | "pause" | "black-hole";
  /** Each piece arrives this much later, without slowing the stream down. */
  readonly delayMs?: number;
  /** Up to this much more, by the seed; order is kept, as TCP keeps it. */
  readonly jitterMs?: number;
  readonly bytesPerSecond?: number;
  /** Pieces of at most this size, each a write of its own. */
  readonly splitBytes?: number;
  /** What comes within this time arrives as one piece. */
  readonly coalesceMs?: number;
  /** Acts once per connection, after exactly so many bytes or whole frames of this direction have passed. */
  readonly cut?: { readonly after: CutPoint; readonly act: CutAct };
  /** Needed for cuts by frames. Made anew for each connection. */
  readonly countFrames?: () => FrameCounter;
}

/** Takes the stream piece by piece; gives how many bytes into the piece each frame ends. */
export type FrameCounter = (piece: Uint8Array) => readonly number[];

/** Frames that end with a delimiter, such as the empty line of server-sent events; it may be parted over pieces. */
export function delimitedFrames(delimiter: string): () => FrameCounter {
  const wanted = Buffer.from(delimiter);
  return () => {
    let kept = Buffer.alloc(0);
    return (piece) => {
      const bytes = Buffer.concat([kept, piece]);
      const ends: number[] = [];
      let from = 0;
      for (;;) {
        const at = bytes.indexOf(wanted, from);
        if (at < 0) break;
        from = at + wanted.length;
        ends.push(from - kept.length);
      }
      kept = bytes.subarray(Math.max(from, bytes.length - wanted.length + 1));
      return ends;
    };
  };
}
