// One direction of one proxied connection: reads, holds back, cuts into pieces, passes on, and acts at its cut point.
// Bytes are never reordered, altered or invented: whatever the plan, what arrives is a prefix of what was sent.
import type { Socket } from "node:net";
import { afterThisTurn, type Clock } from "../../shared/clock.ts";
import type { CutAct, FrameCounter, LanePlan } from "./fault-plan.ts";

export interface LaneDeps {
  readonly source: Socket;
  readonly sink: Socket;
  readonly clock: Pick<Clock, "monotonicMs" | "sleep">;
  readonly unit: () => number;
  readonly onCut: (act: CutAct) => void;
}

interface Held {
  readonly bytes: Buffer;
  readonly dueMs: number;
}

/** Beyond this the source is no longer read; a real line holds about as much. */
const heldBytesAtMost = 1024 * 1024;

export class Lane {
  readonly #deps: LaneDeps;
  #plan: LanePlan;
  #held: Held[] = [];
  #heldBytes = 0;
  #lastDueMs = 0;
  #passed = 0;
  #frames = 0;
  #counter: FrameCounter | undefined;
  /** What a cut did to this direction for good; a changed plan does not undo it. */
  #stopped: "no" | "pause" | "black-hole" | "ended" = "no";
  #ending = false;
  #wake: () => void = () => undefined;
  readonly #closed = new AbortController();

  constructor(deps: LaneDeps, plan: LanePlan) {
    this.#deps = deps;
    this.#plan = plan;
    this.#counter = plan.countFrames?.();
    const { source, sink } = deps;
    source.on("readable", () => this.#wake());
    source.once("end", () => {
      this.#ending = true;
      this.#wake();
    });
    sink.on("drain", () => this.#wake());
    const over = (): void => {
      this.#closed.abort();
      this.#wake();
    };
    sink.once("close", over);
    // A source that ended in good order is closed while its last bytes are still held back here.
    source.once("close", () => {
      if (!source.readableEnded) over();
    });
    void this.#read();
    void this.#write();
  }

  /** Bytes passed on so far. */
  get passed(): number {
    return this.#passed;
  }

  change(plan: LanePlan): void {
    this.#plan = plan;
    this.#counter ??= plan.countFrames?.();
    this.#wake();
  }

  get #flow(): "pass" | "pause" | "black-hole" {
    if (this.#stopped === "ended" || this.#stopped === "black-hole") return "black-hole";
    return this.#stopped === "pause" ? "pause" : (this.#plan.flow ?? "pass");
  }

  /** Until something may have changed. Both loops wait here, so each wake rouses both. */
  #change(): Promise<void> {
    const before = this.#wake;
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = () => undefined;
        before();
        resolve();
      };
    });
  }

  async #read(): Promise<void> {
    const { source, clock, unit } = this.#deps;
    while (!this.#closed.signal.aborted) {
      const mayRead = this.#flow !== "pause" && this.#heldBytes < heldBytesAtMost;
      const bytes: unknown = mayRead ? source.read() : null;
      if (!(bytes instanceof Buffer)) {
        await this.#change();
        continue;
      }
      if (this.#flow === "black-hole") continue;
      const { delayMs = 0, jitterMs = 0 } = this.#plan;
      this.#lastDueMs = Math.max(this.#lastDueMs, clock.monotonicMs() + delayMs + unit() * jitterMs);
      this.#held.push({ bytes, dueMs: this.#lastDueMs });
      this.#heldBytes += bytes.length;
      this.#wake();
    }
  }

  async #write(): Promise<void> {
    try {
      while (!this.#closed.signal.aborted) {
        if (this.#flow === "black-hole") this.#drop();
        const [first] = this.#held;
        if (first === undefined && this.#ending && this.#flow !== "pause") {
          if (this.#stopped === "no" && this.#flow === "pass") this.#deps.sink.end();
          return;
        }
        if (first === undefined || this.#flow === "pause" || this.#deps.sink.writableNeedDrain) await this.#change();
        else if (await this.#isDue(first)) await this.#pass(this.#take());
      }
    } catch (cause) {
      if (!this.#closed.signal.aborted) throw cause;
    }
  }

  #drop(): void {
    this.#held = [];
    this.#heldBytes = 0;
  }

  /** True at once when it is due; else waits, and the plan is looked at again. */
  async #isDue({ dueMs }: Held): Promise<boolean> {
    const { clock } = this.#deps;
    const leftMs = dueMs + (this.#plan.coalesceMs ?? 0) - clock.monotonicMs();
    if (leftMs <= 0) return true;
    await clock.sleep(leftMs, this.#closed.signal);
    return false;
  }

  /** The first piece; when pieces are coalesced, all that are due with it. */
  #take(): Buffer {
    const nowMs = this.#deps.clock.monotonicMs();
    const due = this.#plan.coalesceMs === undefined ? 1 : this.#held.filter(({ dueMs }) => dueMs <= nowMs).length;
    const pieces = this.#held.splice(0, Math.max(1, due)).map(({ bytes }) => bytes);
    const piece = Buffer.concat(pieces);
    this.#heldBytes -= piece.length;
    this.#wake();
    return piece;
  }

  async #pass(piece: Buffer): Promise<void> {
    const { clock } = this.#deps;
    for (let from = 0; from < piece.length;) {
      while (this.#flow === "pause" && !this.#closed.signal.aborted) await this.#change();
      if (this.#flow === "black-hole" || this.#closed.signal.aborted) return;
      const { splitBytes = Infinity, bytesPerSecond = Infinity } = this.#plan;
      const most = Math.min(splitBytes, Math.max(1, Math.ceil(bytesPerSecond / 50)));
      const next = piece.subarray(from, Math.min(piece.length, from + most));
      const allowed = this.#allowed(next);
      if (allowed.length > 0) await this.#send(allowed);
      from += allowed.length;
      this.#passed += allowed.length;
      if (this.#isAtCut() && this.#cut() !== "go-on") return;
      // A turn of the event loop between two parts, or a reader in this process would find them joined again.
      if (splitBytes !== Infinity) await new Promise<void>(afterThisTurn);
      if (bytesPerSecond !== Infinity)
        await clock.sleep((allowed.length / bytesPerSecond) * 1_000, this.#closed.signal);
    }
  }

  /** What of the piece lies before the cut point; counts frames on the way. */
  #allowed(piece: Buffer): Buffer {
    const { cut } = this.#plan;
    if (this.#counter !== undefined) {
      const ends = this.#counter(piece);
      const wanted = cut !== undefined && "frames" in cut.after ? cut.after.frames - this.#frames : Infinity;
      this.#frames += Math.min(ends.length, Math.max(0, wanted));
      if (wanted > 0 && ends.length >= wanted) return piece.subarray(0, ends[wanted - 1]);
    }
    return cut !== undefined && "bytes" in cut.after
      ? piece.subarray(0, Math.max(0, cut.after.bytes - this.#passed))
      : piece;
  }

  #isAtCut(): boolean {
    const { cut } = this.#plan;
    if (cut === undefined || this.#stopped !== "no") return false;
    return "bytes" in cut.after ? this.#passed >= cut.after.bytes : this.#frames >= cut.after.frames;
  }

  #cut(): "stopped" | "go-on" {
    const { sink, source, onCut } = this.#deps;
    const act = this.#plan.cut?.act ?? "close";
    this.#stopped = act === "pause" || act === "black-hole" ? act : "ended";
    onCut(act);
    if (act === "half-close") sink.end();
    if (act === "close") for (const socket of [sink, source]) socket.destroy();
    if (act === "reset") for (const socket of [sink, source]) socket.resetAndDestroy();
    return act === "pause" ? "go-on" : "stopped";
  }

  /** Resolves when the operating system has taken the bytes, so that a cut behind them loses none of them. */
  #send(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => void this.#deps.sink.write(bytes, () => resolve()));
  }
}
