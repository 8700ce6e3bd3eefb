// Sends one stream of one attempt through its current home: within the node's window, the first byte at once, then
// coalesced, and from wherever the node says it stands. Leaves the file to spool.ts and homes to roster.ts.
// Invariant: pieces of a home leave in order and without gap from the offset the node last named.
import type { Clock, Timer } from "../shared/clock.ts";
import { initialWindowBytes, logFrameBytes } from "../shared/wire/fields.ts";
import type { LogContent } from "../shared/wire/log.ts";
import { lengthOf, seenAt } from "../shared/wire/log.ts";
import { LogTimes } from "./log-times.ts";
import type { Pace } from "./pace.ts";
import type { Spool } from "./spool.ts";

export interface LogOutlet {
  send(offset: number, content: LogContent): void;
  /** Messages that wait behind the socket; the shipper pauses while they are many. */
  readonly queued: number;
}

export interface LogShipperDeps {
  readonly clock: Clock;
  readonly spool: Pick<Spool, "size" | "piece">;
  /** Of a task whose log has a limit. */
  readonly pace?: Pace | undefined;
  /** Everything up to the sealed end was sent. */
  readonly onDrained: () => void;
  readonly onError: (cause: unknown) => void;
}

export interface LogShipperOptions {
  /** Small pieces are gathered for at most this long after one was sent. Default 50. */
  readonly coalesceMs?: number;
  /** How long a resumed stream waits for the node's position before it tries its own. Default 2,000. */
  readonly resumeMs?: number;
  /** Queued messages at which the shipper pauses. Default 64. */
  readonly pauseAtQueued?: number;
}

/** A file that cannot be read is tried again this often, not as fast as it fails. */
const unreadableMs = 1_000;
const shrunkMs = 50;
/** How soon it is looked whether the socket has taken what waits behind it. */
const queuedMs = 20;
/** With a limit, sending waits for at least this much, or for a second's worth if that is less. */
const pacedBytes = 4_096;

type State =
  | { readonly kind: "detached" }
  /** Attached, and the node has not said yet where it stands. */
  | { readonly kind: "asking"; readonly outlet: LogOutlet; readonly timer: Timer; readonly dueMs: number }
  | { readonly kind: "flowing"; readonly outlet: LogOutlet };

export class LogShipper {
  readonly #deps: LogShipperDeps;
  readonly #coalesceMs: number;
  readonly #resumeMs: number;
  readonly #pauseAtQueued: number;
  readonly #times = new LogTimes();
  #state: State = { kind: "detached" };
  /** Next offset to send, the offset it may go up to, and what the node has. */
  #next = 0;
  #limit = 0;
  #acknowledged = 0;
  #sentAtMs = -Infinity;
  /** `gathering` ends early when there is enough to send or nothing more will come; `resting` does not. */
  #pause: { readonly kind: "gathering" | "resting"; readonly timer: Timer } | undefined;
  #pumping: Promise<void> | undefined;
  /** `drained` is said once per position the node named. */
  #end: "open" | "sealed" | "drained" = "open";

  constructor(deps: LogShipperDeps, options: LogShipperOptions = {}) {
    this.#deps = deps;
    this.#coalesceMs = options.coalesceMs ?? 50;
    this.#resumeMs = options.resumeMs ?? 2_000;
    this.#pauseAtQueued = options.pauseAtQueued ?? 64;
  }

  /** A home from byte 0, whose first window needs no word of the node, or one that the node resumes. */
  attach(outlet: LogOutlet, from: "start" | "node"): void {
    // Asked to again while it asks, it waits no longer than it would have: asked often enough it would wait for ever.
    const nowMs = this.#deps.clock.monotonicMs();
    const dueMs = this.#state.kind === "asking" ? this.#state.dueMs : nowMs + this.#resumeMs;
    this.detach();
    if (from === "start") {
      this.#flow(outlet, { offset: 0, limit: initialWindowBytes });
      return;
    }
    const timer = this.#deps.clock.after(dueMs - nowMs, () =>
      this.#flow(outlet, { offset: this.#acknowledged, limit: this.#acknowledged + initialWindowBytes }),
    );
    this.#enter({ kind: "asking", outlet, timer, dueMs });
  }

  detach(): void {
    this.#enter({ kind: "detached" });
  }

  /** The node's `log-ack`. */
  acknowledged(offset: number, window: number): void {
    if (this.#state.kind !== "flowing") return;
    this.#acknowledged = Math.max(this.#acknowledged, offset);
    this.#limit = Math.max(this.#limit, offset + window);
    this.pump();
  }

  /** The node's `resume-from`: go to its position, back or on. */
  resumeFrom(offset: number, window: number): void {
    if (this.#state.kind === "detached") return;
    this.#acknowledged = offset;
    this.#flow(this.#state.outlet, { offset, limit: offset + window });
  }

  /** The spool has its final length. */
  seal(): void {
    if (this.#end === "open") this.#end = "sealed";
    this.pump();
  }

  get isDrained(): boolean {
    return this.#end !== "open" && this.#state.kind === "flowing" && this.#next >= this.#deps.spool.size;
  }

  /** Sends what may be sent now; call it when the file has grown. */
  pump(): void {
    this.#times.note(this.#deps.spool.size, this.#deps.clock.wallMs());
    if (this.#state.kind !== "flowing" || this.#pumping !== undefined || this.#pause?.kind === "resting") return;
    if (this.isDrained) {
      if (this.#end === "sealed") this.#deps.onDrained();
      this.#end = "drained";
      return;
    }
    if (this.#available() <= 0) return;
    const pause = this.#pauseOf(this.#state.outlet);
    if (pause !== undefined) {
      if (this.#pause === undefined) this.#rest(pause.kind, pause.forMs);
      return;
    }
    this.#endPause();
    this.#pumping = this.#send(this.#state)
      .catch((cause: unknown) => {
        this.#deps.onError(cause);
        this.#rest("resting", unreadableMs);
      })
      .finally(() => {
        this.#pumping = undefined;
        if (this.#available() > 0 || this.isDrained) this.pump();
      });
  }

  /** Resolves when no read is under way any more. */
  async settle(): Promise<void> {
    while (this.#pumping !== undefined) await this.#pumping;
  }

  #enter(state: State): void {
    if (this.#state.kind === "asking") this.#state.timer.cancel();
    this.#endPause();
    this.#state = state;
  }

  #flow(outlet: LogOutlet, position: { readonly offset: number; readonly limit: number }): void {
    this.#next = position.offset;
    this.#limit = position.limit;
    this.#sentAtMs = -Infinity;
    if (this.#end === "drained") this.#end = "sealed";
    this.#enter({ kind: "flowing", outlet });
    this.pump();
  }

  #rest(kind: "gathering" | "resting", forMs: number): void {
    this.#endPause();
    if (this.#state.kind !== "flowing") return;
    const timer = this.#deps.clock.after(forMs, () => {
      this.#pause = undefined;
      this.pump();
    });
    this.#pause = { kind, timer };
  }

  #endPause(): void {
    this.#pause?.timer.cancel();
    this.#pause = undefined;
  }

  #available(): number {
    return this.#state.kind === "flowing" ? Math.min(this.#deps.spool.size, this.#limit) - this.#next : 0;
  }

  /** Why nothing is sent at this moment, and for how long at most. */
  #pauseOf(outlet: LogOutlet): { readonly kind: "gathering" | "resting"; readonly forMs: number } | undefined {
    if (outlet.queued > this.#pauseAtQueued) return { kind: "resting", forMs: queuedMs };
    const { pace, clock } = this.#deps;
    // What there is, when it is less: the end of a stream, or of a window, must not wait for bytes that never come.
    const least = Math.min(pacedBytes, this.#available());
    if (pace?.admits(least, clock.monotonicMs()) === false)
      return { kind: "resting", forMs: Math.max(1, pace.waitMs(least)) };
    const pending = this.#deps.spool.size - this.#next;
    if (this.#end !== "open" || pending >= logFrameBytes) return undefined;
    const forMs = Math.ceil(this.#sentAtMs + this.#coalesceMs - this.#deps.clock.monotonicMs());
    return forMs > 0 ? { kind: "gathering", forMs } : undefined;
  }

  async #send(state: Extract<State, { kind: "flowing" }>): Promise<void> {
    while (this.#state === state && this.#available() > 0 && this.#pauseOf(state.outlet) === undefined) {
      const offset = this.#next;
      // Only what may be sent is read, for what was read counts as sent in the digest.
      const { pace, clock } = this.#deps;
      const allowed = pace?.allowance(clock.monotonicMs()) ?? Infinity;
      const piece = await this.#deps.spool.piece(offset, Math.min(this.#limit - offset, allowed));
      if (piece === undefined) {
        // The file is shorter than it was a moment ago: its follower will see that too.
        this.#rest("resting", shrunkMs);
        return;
      }
      // While it was read the home may have changed or the node may have named another position.
      if (this.#state !== state || this.#next !== offset) return;
      if ("bytes" in piece) pace?.take(piece.bytes.length);
      const atMs = seenAt(this.#times.at(offset));
      state.outlet.send(offset, atMs === undefined ? piece : { ...piece, atMs });
      this.#next = offset + lengthOf(piece);
      this.#sentAtMs = this.#deps.clock.monotonicMs();
    }
  }
}
