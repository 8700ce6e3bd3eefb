// One message connection over one socket: encodes, orders and bounds what is sent; decodes and checks what arrives.
// Two queues: control overtakes bulk, but a control message about an attempt whose bulk is still queued follows it,
// so that frames of one attempt keep their order. What is sent in one turn shares frames and one write. Leaves heartbeats to heartbeat.ts and meaning to its owner.
import { BoundedQueue } from "./bounded-queue.ts";
import { AppError } from "./errors.ts";
import { decodeFrame, encodeFrame } from "./wire/frame.ts";
import { closeCode } from "./wire/close-code.ts";
import { itemsPerMessage } from "./wire/fields.ts";
import { reached } from "./steps.ts";

/** A control frame holds 125 bytes, two of them the close code (RFC 6455, 5.5). */
const closeReasonBytes = 123;

/** What a Link needs of a WebSocket; `ws` fits it. */
export interface FrameSocket {
  readonly bufferedAmount: number;
  send(frame: Uint8Array, done: (error?: Error) => void): void;
  ping(): void;
  close(code: number, reason: string): void;
  terminate(): void;
  /** Holds writes back until `uncork`, so that frames sent together leave in one system call. */
  cork?(): void;
  uncork?(): void;
  /** Stops and goes on reading: how a receiver that cannot keep up slows its peer down. */
  pause?(): void;
  resume?(): void;
}

export interface LinkDeps {
  readonly socket: FrameSocket;
  /** When queued messages go to the socket: at once by default, or after the turn, so that neighbours share frames. */
  readonly defer?: (act: () => void) => void;
}

export interface LinkOptions {
  /** Bytes handed to the socket and not yet taken by the kernel; beyond it frames wait in the queues. Default 128 KiB. */
  readonly socketBytes?: number;
  /** Messages that may wait; at the bound the link closes with 1009, for its peer reads too slowly. Default 16,384. */
  readonly queuedMessages?: number;
}

export interface Outgoing {
  readonly type: string;
}

export class Link<Sent extends Outgoing> {
  readonly #socket: FrameSocket;
  readonly #defer: (act: () => void) => void;
  readonly #socketBytes: number;
  readonly #control: BoundedQueue<Sent>;
  readonly #bulk: BoundedQueue<Sent>;
  /** Bulk that waits, by attempt; no map while there is none, for most links are idle. */
  #bulkOf: Map<string, number> | undefined;
  /** What the messages that wait weigh, of those whose sender said; no map while there is none. */
  #weights: Map<Sent, number> | undefined;
  #waitingBytes = 0;
  #writingBytes = 0;
  #written = 0;
  #state: "open" | "closed" = "open";
  #pump: "idle" | "due" | "running" = "idle";

  constructor(deps: LinkDeps, options: LinkOptions = {}) {
    this.#socket = deps.socket;
    this.#defer = deps.defer ?? ((act) => act());
    this.#socketBytes = options.socketBytes ?? 128 * 1024;
    const capacity = options.queuedMessages ?? 16_384;
    this.#control = new BoundedQueue({ capacity });
    this.#bulk = new BoundedQueue({ capacity });
  }

  /**
   * Queues one message. After close it is dropped silently: the session's end is what its owner reacts to. `bytes` is what it
   * holds while it waits, for those that may be large.
   */
  send(message: Sent, bytes = 0): void {
    if (this.#state === "closed") return;
    if (bytes > 0) this.#weigh(message, bytes);
    const attempts = attemptsOf(message);
    const isBulk = message.type === "log" || attempts.some((attempt) => this.#bulkOf?.has(attempt) === true);
    if (isBulk) this.#countBulk(attempts, 1);
    if ((isBulk ? this.#bulk : this.#control).push(message)) this.#schedule();
    else this.close(closeCode.tooLarge, "send queue full");
  }

  /** Messages that wait behind the socket; producers of bulk pause while it is high. */
  get queued(): number {
    return this.#control.size + this.#bulk.size;
  }

  /** Of those messages, as far as their sender said. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Of frames that the socket was given and has not passed on to the kernel. */
  get writingBytes(): number {
    return this.#writingBytes;
  }

  /** Frames that it has: a number that stands still while {@link writingBytes} are more than none tells of a peer that does not read. */
  get written(): number {
    return this.#written;
  }

  close(code: number, reason: string): void {
    if (this.#state === "closed") return;
    // What was sent before the close still leaves, as far as the socket takes it at once.
    if (this.#pump === "due") this.#send();
    this.#state = "closed";
    this.#socket.close(code, closeReason(reason));
  }

  ping(): void {
    if (this.#state === "open") this.#socket.ping();
  }

  /** The socket is gone; nothing is sent any more. */
  ended(): void {
    this.#state = "closed";
  }

  #schedule(): void {
    if (this.#pump !== "idle") return;
    this.#pump = "due";
    this.#defer(() => this.#send());
  }

  #send(): void {
    this.#pump = "running";
    this.#socket.cork?.();
    while (this.#state === "open" && this.#socket.bufferedAmount < this.#socketBytes) {
      const message = this.#shiftControl() ?? this.#shiftBulk();
      if (message === undefined) break;
      const frame = this.#encode(message);
      if (frame === undefined) break;
      reached("sending", message.type);
      this.#writingBytes += frame.length;
      this.#socket.send(frame, () => {
        this.#writingBytes -= frame.length;
        this.#written += 1;
        if (this.queued > 0) this.#schedule();
      });
      reached("sent", message.type);
    }
    this.#socket.uncork?.();
    this.#pump = "idle";
  }

  /** A message that fits no frame ends the link: left out, it would be waited for by the other side for ever. */
  #encode(message: Sent): Uint8Array | undefined {
    try {
      return encodeFrame(message);
    } catch (cause) {
      this.#state = "closed";
      this.#socket.close(closeCode.tooLarge, closeReason(`${message.type}: ${AppError.from(cause).message}`));
      return undefined;
    }
  }

  /** The next control message, joined with neighbours of its type that carry items too. */
  #shiftControl(): Sent | undefined {
    const message = this.#control.shift();
    if (message === undefined) return undefined;
    this.#unweigh(message);
    if (!isJoinable(message)) return message;
    const items = [...message.items];
    for (let next = this.#control.peek(); next !== undefined; next = this.#control.peek()) {
      if (next.type !== message.type || !isJoinable(next) || items.length + next.items.length > itemsPerMessage) break;
      items.push(...next.items);
      this.#control.shift();
      this.#unweigh(next);
    }
    return { ...message, items };
  }

  #shiftBulk(): Sent | undefined {
    const message = this.#bulk.shift();
    if (message === undefined) return undefined;
    this.#unweigh(message);
    this.#countBulk(attemptsOf(message), -1);
    return message;
  }

  #weigh(message: Sent, bytes: number): void {
    (this.#weights ??= new Map<Sent, number>()).set(message, bytes);
    this.#waitingBytes += bytes;
  }

  #unweigh(message: Sent): void {
    const bytes = this.#weights?.get(message);
    if (bytes === undefined) return;
    this.#waitingBytes -= bytes;
    this.#weights?.delete(message);
    if (this.#weights?.size === 0) this.#weights = undefined;
  }

  #countBulk(attempts: readonly string[], change: 1 | -1): void {
    const counts = (this.#bulkOf ??= new Map<string, number>());
    for (const attempt of attempts) {
      const left = (counts.get(attempt) ?? 0) + change;
      if (left <= 0) counts.delete(attempt);
      else counts.set(attempt, left);
    }
    if (counts.size === 0) this.#bulkOf = undefined;
  }
}

/** What of a reason fits a close frame, in whole characters. `ws` throws at a longer one, and reasons quote what peers sent. */
function closeReason(reason: string): string {
  const bytes = new Uint8Array(closeReasonBytes);
  return reason.slice(0, new TextEncoder().encodeInto(reason, bytes).read);
}

function attemptsOf(message: object): string[] {
  if ("attempt" in message && typeof message.attempt === "string") return [message.attempt];
  if (!("items" in message) || !Array.isArray(message.items)) return [];
  return message.items.flatMap((item: unknown) => {
    if (typeof item === "string") return [item];
    return typeof item === "object" && item !== null && "attempt" in item && typeof item.attempt === "string"
      ? [item.attempt]
      : [];
  });
}

/** Offers are packed by size already and stay as they are. */
function isJoinable<Message extends Outgoing>(
  message: Message,
): message is Message & { readonly items: readonly unknown[] } {
  return message.type !== "offer" && "items" in message && Array.isArray(message.items);
}

interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

export interface MessageSchema<T> {
  safeParse(
    value: unknown,
  ): { success: true; data: T } | { success: false; error: { readonly issues: readonly Issue[] } };
}

/** A reason goes into a log line, and a frame of 4 KiB can have a thousand wrong fields. */
const reasonLength = 200;

function reasonOf(type: string, [issue]: readonly Issue[]): string {
  return `${type}: ${issue?.path.map(String).join(".")} ${issue?.message}`
    .replaceAll(/\s+/g, " ")
    .slice(0, reasonLength);
}

export type Incoming<T> =
  | { readonly kind: "message"; readonly message: T }
  | { readonly kind: "refused"; readonly code: number; readonly reason: string };

/** Decodes and checks one frame; the answer says with which close code a bad one ends the connection. */
export function readFrame<T>(
  frame: Uint8Array,
  schema: MessageSchema<T>,
  knownTypes: ReadonlySet<string>,
): Incoming<T> {
  let value: unknown;
  try {
    value = decodeFrame(frame);
  } catch (cause) {
    return { kind: "refused", code: closeCode.invalidFrame, reason: AppError.from(cause).message };
  }
  const type = typeof value === "object" && value !== null && "type" in value ? value.type : undefined;
  if (typeof type !== "string" || !knownTypes.has(type)) {
    return {
      kind: "refused",
      code: closeCode.protocolError,
      reason: `unknown message type ${JSON.stringify(type)?.slice(0, 40)}`,
    };
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) {
    reached("received", type);
    return { kind: "message", message: parsed.data };
  }
  return {
    kind: "refused",
    code: closeCode.invalidFrame,
    reason: reasonOf(type, parsed.error.issues),
  };
}
