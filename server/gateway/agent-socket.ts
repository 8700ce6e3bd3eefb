// What an agent's session sees of its WebSocket and the TLS stream under it. A class, not closures: one for each idle agent.
import type { Duplex } from "node:stream";
import type { FrameSocket } from "../../shared/link.ts";

/** The part of a `ws` socket that is used. */
interface WebSocketPart extends Required<Omit<FrameSocket, "send" | "cork" | "uncork">> {
  send(
    frame: Uint8Array,
    options: { readonly binary: boolean; readonly compress: boolean },
    done: (error?: Error) => void,
  ): void;
}

export class AgentSocket implements FrameSocket {
  readonly #webSocket: WebSocketPart;
  readonly #stream: Duplex;

  constructor(webSocket: WebSocketPart, stream: Duplex) {
    this.#webSocket = webSocket;
    this.#stream = stream;
  }

  get bufferedAmount(): number {
    return this.#webSocket.bufferedAmount;
  }

  send(frame: Uint8Array, done: (error?: Error) => void): void {
    this.#webSocket.send(frame, { binary: true, compress: false }, done);
  }

  ping(): void {
    this.#webSocket.ping();
  }

  close(code: number, reason: string): void {
    this.#webSocket.close(code, reason);
  }

  terminate(): void {
    this.#webSocket.terminate();
  }

  cork(): void {
    this.#stream.cork();
  }

  uncork(): void {
    this.#stream.uncork();
  }

  pause(): void {
    this.#webSocket.pause();
  }

  resume(): void {
    this.#webSocket.resume();
  }
}
