// Strangers at a port of a node: plain TCP connections from several addresses of loopback, which say a part of something and
// never the end. Says how many the node keeps. Invariant: whatever the node ends is counted; `leave` leaves no socket open.
import { connect, type Socket } from "node:net";
import { systemClock, type Timer } from "../../../shared/clock.ts";

export interface CrowdPlan {
  readonly port: number;
  readonly count: number;
  /** Taken in turn. */
  readonly addresses: readonly string[];
  /** What the stranger of this number says at once. Default: nothing. */
  readonly says?: (no: number) => Uint8Array;
  /** What it goes on with, byte by byte as {@link Crowd.drip} has it; from the start again when it is through. */
  readonly goesOn?: (no: number) => Uint8Array;
}

/** Connects under way at once: below the queue of a listener, so that the kernel drops none. */
const atOnce = 200;

/** `127.0.0.101` and so on: none that an agent of the test uses. */
export function addresses(count: number): readonly string[] {
  return Array.from({ length: count }, (_, no) => `127.0.0.${101 + no}`);
}

interface Member {
  readonly socket: Socket;
  readonly no: number;
  said: number;
}

export class Crowd {
  readonly #plan: CrowdPlan;
  readonly #members = new Set<Member>();
  readonly #leaving: Promise<void>[] = [];
  #timer: Timer | undefined;
  /** Connections the node accepted so far. */
  accepted = 0;
  /** The first bytes of what the node answered, by how often. */
  readonly answers = new Map<string, number>();

  private constructor(plan: CrowdPlan) {
    this.#plan = plan;
  }

  /** Resolves once every one of them has been taken or refused; the node may have ended some again by then. */
  static async gather(plan: CrowdPlan): Promise<Crowd> {
    const crowd = new Crowd(plan);
    let next = 0;
    const walkIn = async (): Promise<void> => {
      while (next < plan.count) await crowd.#arrive(next++);
    };
    await Promise.all(Array.from({ length: atOnce }, walkIn));
    return crowd;
  }

  /** Connections that the node has not ended, as far as anybody can see who does not read. */
  get held(): number {
    return this.#members.size;
  }

  /** Each one that is left says its next byte, again and again. The pace of the attack, not a wait. */
  drip(everyMs: number): void {
    this.#timer = systemClock.every(everyMs, () => {
      for (const member of this.#members) {
        const text = this.#plan.goesOn?.(member.no);
        if (text !== undefined && text.length > 0)
          member.socket.write(text.subarray(member.said % text.length).subarray(0, 1));
        member.said += 1;
      }
    });
  }

  async leave(): Promise<void> {
    this.#timer?.cancel();
    for (const { socket } of this.#members) socket.destroy();
    await Promise.all(this.#leaving);
  }

  #arrive(no: number): Promise<void> {
    const { port, addresses: from, says } = this.#plan;
    const localAddress = from[no % from.length];
    const socket = connect({ host: "127.0.0.1", port, ...(localAddress === undefined ? {} : { localAddress }) });
    const member = { socket, no, said: 0 };
    this.#members.add(member);
    const left = Promise.withResolvers<void>();
    this.#leaving.push(left.promise);
    return new Promise((resolve) => {
      socket.once("connect", () => {
        this.accepted += 1;
        if (says !== undefined) socket.write(says(no));
        resolve();
      });
      socket.on("data", (bytes) => {
        const answer = bytes.toString("latin1").split("\r\n", 1)[0] ?? "";
        this.answers.set(answer, (this.answers.get(answer) ?? 0) + 1);
      });
      socket.on("error", () => undefined);
      socket.once("close", () => {
        this.#members.delete(member);
        left.resolve();
        resolve();
      });
    });
  }
}
