// Whether an agent reads what it is sent. Needs no timer: an agent that says nothing is ended for its silence, and one that
// speaks is looked at when it does. Decides nothing; what follows is its session's to do.
import type { Clock } from "../../shared/clock.ts";
import type { FromNode } from "../../shared/wire/from-node.ts";
import type { Link } from "../../shared/link.ts";

/** Behind more than these nothing is claimed for an agent. */
const mostWaiting = { messages: 256, bytes: 4 * 1024 * 1024 } as const;
/**
 * Within this time a frame leaves, or the agent does not read; and within a second more for each 8 KiB on their way, for nobody
 * sees how much of a frame the kernel has taken, and an offer of 768 KiB takes three minutes on a line of 32 kbit/s.
 */
const stalledAfterMs = 60_000;
const slowestBytesPerMs = 8.192;

export interface ReaderWatchDeps {
  readonly link: Pick<Link<FromNode>, "queued" | "waitingBytes" | "writingBytes" | "written">;
  readonly clock: Pick<Clock, "monotonicMs">;
}

export class ReaderWatch {
  readonly #deps: ReaderWatchDeps;
  /** Since when the frame on its way is the same. */
  #seen: { readonly written: number; readonly sinceMs: number } | undefined;
  #claims: "open" | "held" = "open";

  constructor(deps: ReaderWatchDeps) {
    this.#deps = deps;
  }

  /** Asked before a claim: whether too much waits for it already. */
  isFull(): boolean {
    const isFull = this.#isFull();
    if (isFull) this.#claims = "held";
    return isFull;
  }

  /** `freed`: a claim was held back, and need be no longer. */
  look(): "reading" | "freed" | "stalled" {
    const { link, clock } = this.#deps;
    const mostMs = stalledAfterMs + link.writingBytes / slowestBytesPerMs;
    if (link.writingBytes === 0) this.#seen = undefined;
    else if (this.#seen?.written !== link.written) this.#seen = { written: link.written, sinceMs: clock.monotonicMs() };
    else if (clock.monotonicMs() - this.#seen.sinceMs >= mostMs) return "stalled";
    if (this.#claims === "open" || this.#isFull()) return "reading";
    this.#claims = "open";
    return "freed";
  }

  #isFull(): boolean {
    const { queued, waitingBytes } = this.#deps.link;
    return queued > mostWaiting.messages || waitingBytes >= mostWaiting.bytes;
  }
}
