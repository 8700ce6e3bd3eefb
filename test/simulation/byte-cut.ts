// How many bytes went through a connection each way, and the one place at which it is to be cut.
import type { Packet } from "./packet.ts";

/** The connecting end is the agent's. */
export const directions = ["toNode", "toAgent"] as const;
export type Direction = (typeof directions)[number];

export interface ByteCut {
  readonly direction: Direction;
  /** So many bytes still arrive, the next does not. */
  readonly afterBytes: number;
  /** `reset`: both ends are told at once. `black-hole`: nothing goes this way any more, and nobody is told. */
  readonly act: "reset" | "black-hole";
}

export class ByteGate {
  readonly passed: Record<Direction, number> = { toNode: 0, toAgent: 0 };
  /** How many had passed when each frame began. */
  readonly frames: Record<Direction, number[]> = { toNode: [], toAgent: [] };
  readonly #cut: ByteCut | undefined;
  readonly #reset: () => void;
  #isCut = false;

  constructor(cut: ByteCut | undefined, reset: () => void) {
    this.#cut = cut;
    this.#reset = reset;
  }

  get isCut(): boolean {
    return this.#isCut;
  }

  /** Whether nothing goes this way any more. */
  isShut(direction: Direction): boolean {
    return this.#isCut && this.#cut?.direction === direction;
  }

  /** What of a packet arrives; undefined when nothing does. */
  pass(direction: Direction, packet: Packet): Packet | undefined {
    if (this.isShut(direction)) return undefined;
    if (packet.kind !== "bytes") return packet;
    const { bytes } = packet;
    this.frames[direction].push(this.passed[direction]);
    const cut = this.#cut?.direction === direction ? this.#cut : undefined;
    const left = cut === undefined ? bytes.length : cut.afterBytes - this.passed[direction];
    this.passed[direction] += Math.min(left, bytes.length);
    if (cut === undefined || left >= bytes.length) return packet;
    this.#isCut = true;
    if (cut.act === "reset") this.#reset();
    return left === 0 ? undefined : { kind: "bytes", bytes: bytes.subarray(0, left) };
  }
}
