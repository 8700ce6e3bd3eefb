// What `ws` exports and its types leave out: the writer and the reader of frames, as far as the simulator uses them.
import type { Writable } from "node:stream";

declare module "ws" {
  /** Where a sender writes. */
  export interface ByteSink {
    cork(): void;
    uncork(): void;
    write(bytes: Uint8Array): void;
  }

  export class Sender {
    constructor(sink: ByteSink, extensions?: object, generateMask?: (mask: Uint8Array) => void);
    send(
      data: Uint8Array,
      options: { readonly binary: boolean; readonly fin: boolean; readonly mask: boolean; readonly compress: boolean },
    ): void;
    ping(data: Uint8Array, mask: boolean): void;
    pong(data: Uint8Array, mask: boolean): void;
    close(code: number, reason: string, mask: boolean): void;
  }

  /** Emits `message`, `ping`, `pong`, `conclude` (a close frame) and `error`. */
  export class Receiver extends Writable {
    constructor(options: {
      readonly isServer: boolean;
      readonly maxPayload?: number;
      readonly maxFragments?: number;
      readonly maxBufferedChunks?: number;
    });
  }
}
