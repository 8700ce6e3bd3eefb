// One end of a WebSocket connection as bytes: the sender of `ws` writes them and its receiver reads them, with the bounds of
// the node's listener, so that a connection cut within a header, a mask or a payload is what the shipped code would see.
// The upgrade is not part of it. Invariant: the same messages give the same bytes, for masks come from the seed.
import { Receiver, Sender } from "ws";
import { agentWebSocketServer } from "../../server/gateway/tls-options.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { Message } from "./packet.ts";

const nothing = new Uint8Array(0);

export interface WebSocketBytesDeps {
  /** For the masks of the client's frames. */
  readonly random: SeededRandom;
  readonly onMessage: (message: Message) => void;
  /** What arrived is no WebSocket frame. */
  readonly onBroken: (cause: unknown) => void;
}

export class WebSocketBytes {
  readonly #sender: Sender;
  readonly #receiver: Receiver;
  readonly #isClient: boolean;
  #written: Uint8Array[] = [];

  constructor({ random, onMessage, onBroken }: WebSocketBytesDeps, options: { readonly side: "client" | "server" }) {
    this.#isClient = options.side === "client";
    const sink = {
      cork: () => undefined,
      uncork: () => undefined,
      write: (bytes: Uint8Array) => void this.#written.push(bytes),
    };
    this.#sender = new Sender(sink, {}, (mask) => mask.set(random.bytes(4)));
    const { maxPayload, maxFragments, maxBufferedChunks } = agentWebSocketServer;
    this.#receiver = new Receiver({ isServer: !this.#isClient, maxPayload, maxFragments, maxBufferedChunks });
    this.#receiver.on("message", (frame: Buffer, isBinary: boolean) => {
      if (isBinary) onMessage({ kind: "frame", frame });
      else onBroken(new Error("a text frame"));
    });
    this.#receiver.on("ping", () => onMessage({ kind: "ping" }));
    this.#receiver.on("pong", () => onMessage({ kind: "pong" }));
    this.#receiver.on("conclude", (code: number, reason: Buffer) =>
      onMessage({ kind: "close", code, reason: reason.toString() }),
    );
    this.#receiver.on("error", onBroken);
  }

  /** The bytes of one message. */
  write(message: Message): Uint8Array {
    const mask = this.#isClient;
    switch (message.kind) {
      case "frame":
        this.#sender.send(message.frame, { binary: true, fin: true, mask, compress: false });
        break;
      case "ping":
        this.#sender.ping(nothing, mask);
        break;
      case "pong":
        this.#sender.pong(nothing, mask);
        break;
      case "close":
        this.#sender.close(message.code, message.reason, mask);
    }
    const bytes = Buffer.concat(this.#written);
    this.#written = [];
    return bytes;
  }

  /** Bytes arrive; every message they complete is handed on before this returns. */
  read(bytes: Uint8Array): void {
    if (this.#receiver.writable) this.#receiver.write(bytes);
  }
}
