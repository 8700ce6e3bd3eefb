// Who has connected and not been admitted yet. So many handshakes are under way at once; the others wait unread, addresses in
// turn, which costs a socket instead of a handshake that ends in a refusal. A handshake that dawdles loses its place, not its
// connection, until there are too many of those. Invariant: a connection is waiting, under way or forgotten.
import type { Clock, Timer } from "../../shared/clock.ts";

/** What it needs of a `net.Socket` that nobody reads from yet. */
export interface Stranger {
  readonly remoteAddress?: string | undefined;
  /** Its `close` may come later. */
  readonly destroyed: boolean;
  once(event: "close", act: () => void): unknown;
  destroy(): void;
}

export interface WaitingLineDeps<S extends Stranger> {
  readonly clock: Clock;
  readonly begin: (socket: S) => void;
  readonly onRefused: (reason: string) => void;
}

export interface WaitingLineOptions {
  /** Handshakes that keep the next ones waiting. Default 64; with 256 the event loop of a node in a storm was late by 250 ms. */
  readonly atOnce?: number;
  /** Milliseconds after which a handshake keeps nobody waiting any more: agents may be far away, or silent. Default 250. */
  readonly dawdlesAfterMs?: number;
  /** Handshakes under way in all and from one address, dawdling ones included (SECURITY 5). Default 1,000 and 500. */
  readonly underWayAtMost?: number;
  readonly underWayPerAddress?: number;
  /** Connections that wait in all and from one address: a whole site may share one. Default 3,000 and 2,500. */
  readonly waitingAtMost?: number;
  readonly waitingPerAddress?: number;
  /** An agent gives up after 15 s; whom this long a wait has passed is let go unanswered. Default 12,000. */
  readonly waitMs?: number;
}

export const waitingLineDefaults: Required<WaitingLineOptions> = {
  atOnce: 64,
  dawdlesAfterMs: 250,
  underWayAtMost: 1_000,
  underWayPerAddress: 500,
  waitingAtMost: 3_000,
  waitingPerAddress: 2_500,
  waitMs: 12_000,
};

/** A handshake that took this long may be cut off at the bound. */
const spentAfterMs = 3_000;

interface UnderWay {
  readonly address: string;
  readonly sinceMs: number;
}

export class WaitingLine<S extends Stranger> {
  readonly #deps: WaitingLineDeps<S>;
  readonly #options: Required<WaitingLineOptions>;
  /** In the order they began. */
  readonly #underWay = new Map<S, UnderWay>();
  readonly #underWayAt = new Map<string, number>();
  /** The address whose turn is next comes first. */
  readonly #waiting = new Map<string, Map<S, number>>();
  /** A socket that has closed does not know any more. */
  readonly #addressOf = new WeakMap<S, string>();
  #waitingInAll = 0;
  #timer: Timer | undefined;
  #stage: "open" | "choosing" | "closed" = "open";

  constructor(deps: WaitingLineDeps<S>, options: WaitingLineOptions = {}) {
    this.#deps = deps;
    this.#options = { ...waitingLineDefaults, ...options };
  }

  get size(): number {
    return this.#underWay.size + this.#waitingInAll;
  }

  arrive(socket: S): void {
    const address = socket.remoteAddress ?? "";
    const there = this.#waiting.get(address) ?? new Map<S, number>();
    const { waitingAtMost, waitingPerAddress } = this.#options;
    const isCrowd = there.size >= waitingPerAddress;
    if (isCrowd || (this.#waitingInAll >= waitingAtMost && !this.#dropFromCrowd(there.size))) {
      this.#deps.onRefused("too many strangers");
      socket.destroy();
      return;
    }
    socket.once("close", () => this.forget(socket));
    this.#addressOf.set(socket, address);
    there.set(socket, this.#deps.clock.monotonicMs());
    this.#waiting.set(address, there);
    this.#waitingInAll += 1;
    this.#goOn();
  }

  /** Admitted, or gone. */
  forget(socket: S): void {
    const { address } = this.#underWay.get(socket) ?? {};
    if (address === undefined) this.#leave(this.#addressOf.get(socket) ?? "", socket);
    else {
      this.#underWay.delete(socket);
      count(this.#underWayAt, address, -1);
    }
    this.#goOn();
  }

  /** Begins nothing any more. */
  destroyAll(): void {
    this.#stage = "closed";
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const there of this.#waiting.values()) for (const socket of there.keys()) socket.destroy();
    for (const socket of this.#underWay.keys()) socket.destroy();
  }

  #goOn(): void {
    // A socket that is cut off to make room may say so at once: whoever chooses goes on by itself.
    if (this.#stage !== "open") return;
    this.#stage = "choosing";
    const nowMs = this.#deps.clock.monotonicMs();
    try {
      for (let next = this.#next(nowMs); next !== undefined; next = this.#next(nowMs)) this.#deps.begin(next);
    } finally {
      this.#stage = "open";
    }
    if (this.#waitingInAll === 0) {
      this.#timer?.cancel();
      this.#timer = undefined;
    } else this.#timer ??= this.#deps.clock.every(this.#options.dawdlesAfterMs, () => this.#goOn());
  }

  /** Takes the next one whose handshake may begin. */
  #next(nowMs: number): S | undefined {
    if (this.#waitingInAll === 0 || this.#busy(nowMs) >= this.#options.atOnce) return undefined;
    for (const [address, there] of this.#waiting) {
      this.#dropOverdue(address, nowMs);
      const [first] = there.keys();
      if (first === undefined || !this.#hasRoom(address, nowMs)) continue;
      this.#leave(address, first);
      if (there.size > 0) {
        this.#waiting.delete(address);
        this.#waiting.set(address, there);
      }
      this.#underWay.set(first, { address, sinceMs: nowMs });
      count(this.#underWayAt, address, 1);
      return first;
    }
    return undefined;
  }

  #dropOverdue(address: string, nowMs: number): void {
    for (const [socket, sinceMs] of this.#waiting.get(address) ?? []) {
      const hasTime = nowMs - sinceMs <= this.#options.waitMs;
      if (hasTime && !socket.destroyed) return;
      this.#leave(address, socket);
      if (socket.destroyed) continue;
      this.#deps.onRefused("waited too long");
      socket.destroy();
    }
  }

  /** The newest of the address that has most goes for one of an address that has fewer: a crowd keeps nobody else out. */
  #dropFromCrowd(fewer: number): boolean {
    let [crowded, most] = ["", fewer];
    for (const [address, { size }] of this.#waiting) if (size > most) [crowded, most] = [address, size];
    const newest = [...(this.#waiting.get(crowded)?.keys() ?? [])].at(-1);
    if (newest === undefined) return false;
    this.#leave(crowded, newest);
    this.#deps.onRefused("too many strangers");
    newest.destroy();
    return true;
  }

  /** Handshakes under way that do not dawdle: the youngest stand last. */
  #busy(nowMs: number): number {
    let dawdling = 0;
    for (const { sinceMs } of this.#underWay.values()) {
      if (nowMs - sinceMs < this.#options.dawdlesAfterMs) break;
      dawdling += 1;
    }
    return this.#underWay.size - dawdling;
  }

  /** At a bound the one that has dawdled longest goes, for somebody who may be in earnest: of all, or of that address. */
  #hasRoom(address: string, nowMs: number): boolean {
    const { underWayAtMost, underWayPerAddress } = this.#options;
    if ((this.#underWayAt.get(address) ?? 0) >= underWayPerAddress) return this.#dropSpent(nowMs, address);
    return this.#underWay.size < underWayAtMost || this.#dropSpent(nowMs);
  }

  #dropSpent(nowMs: number, address?: string): boolean {
    for (const [socket, spent] of this.#underWay) {
      if (nowMs - spent.sinceMs < spentAfterMs) return false;
      if (address !== undefined && spent.address !== address) continue;
      this.#underWay.delete(socket);
      count(this.#underWayAt, spent.address, -1);
      this.#deps.onRefused("dawdled");
      socket.destroy();
      return true;
    }
    return false;
  }

  #leave(address: string, socket: S): void {
    const there = this.#waiting.get(address);
    if (there?.delete(socket) !== true) return;
    this.#waitingInAll -= 1;
    if (there.size === 0) this.#waiting.delete(address);
  }
}

function count(counts: Map<string, number>, key: string, change: 1 | -1): void {
  const now = (counts.get(key) ?? 0) + change;
  if (now > 0) counts.set(key, now);
  else counts.delete(key);
}
