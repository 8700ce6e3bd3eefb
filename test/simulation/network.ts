// Places and the directed links between them; connections over them behave as TCP does: in order, nothing lost while both
// ends live, silence when a link is cut, a reset when the other end is gone and the way back is open.
// Frames travel whole, or as the bytes that `ws` makes of them when a connection is given a gate that counts and cuts these.
import type { FrameSocket } from "../../shared/link.ts";
import { ByteGate, type ByteCut, type Direction } from "./byte-cut.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { SimProcess } from "./kernel/process.ts";
import type { Scheduled, World } from "./kernel/world.ts";
import { sizeOf, type Message, type Packet } from "./packet.ts";
import { WebSocketBytes } from "./websocket-bytes.ts";

export type Place = string;

interface LinkState {
  isCut: boolean;
  /** Added to every packet's way while the link is clogged. */
  clogMs: number;
}

export class Network {
  readonly world: World;
  readonly random: SeededRandom;
  readonly #links = new Map<string, LinkState>();
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #latencyMs: { readonly least: number; readonly most: number };
  readonly connections = new Set<Connection>();
  /** Told of every new connection, before anything is sent over it. */
  onConnection: (connection: Connection) => void = () => undefined;

  constructor(world: World, latencyMs: { readonly least: number; readonly most: number }) {
    this.world = world;
    this.random = world.random("network");
    this.#latencyMs = latencyMs;
  }

  #link(from: Place, to: Place): LinkState {
    const key = `${from}>${to}`;
    let link = this.#links.get(key);
    if (link === undefined) {
      link = { isCut: false, clogMs: 0 };
      this.#links.set(key, link);
    }
    return link;
  }

  isCut(from: Place, to: Place): boolean {
    return this.#link(from, to).isCut;
  }

  delayMs(from: Place, to: Place): number {
    const { least, most } = this.#latencyMs;
    return this.random.skewed(least, most) + this.#link(from, to).clogMs;
  }

  cut(from: Place, to: Place): void {
    this.#link(from, to).isCut = true;
  }

  clog(from: Place, to: Place, clogMs: number): void {
    this.#link(from, to).clogMs = clogMs;
  }

  heal(from: Place, to: Place): void {
    const link = this.#link(from, to);
    link.clogMs = 0;
    if (!link.isCut) return;
    link.isCut = false;
    const waiting = this.#waiting.get(`${from}>${to}`);
    this.#waiting.delete(`${from}>${to}`);
    for (const act of waiting ?? []) this.world.schedule(this.delayMs(from, to), act);
  }

  healAll(): void {
    for (const key of this.#links.keys()) {
      const [from = "", to = ""] = key.split(">");
      this.heal(from, to);
    }
  }

  /** Calls once when the link is whole again. */
  whenWhole(from: Place, to: Place, act: () => void): void {
    const key = `${from}>${to}`;
    const waiting = this.#waiting.get(key) ?? new Set();
    waiting.add(act);
    this.#waiting.set(key, waiting);
  }
}

export interface EndHandlers {
  frame(frame: Uint8Array): void;
  ping(): void;
  pong(): void;
  ended(code: number, reason: string): void;
}

/** Taken by the kernel before a sender has to wait. */
const kernelBytes = 256 * 1024;

export class End implements FrameSocket {
  readonly place: Place;
  readonly process: SimProcess;
  readonly #connection: Connection;
  handlers: EndHandlers | undefined;
  peer: End | undefined;
  readonly #direction: Direction;
  #bytes: WebSocketBytes | undefined;
  readonly #outgoing: { readonly packet: Packet; readonly done: (() => void) | undefined }[] = [];
  #outgoingBytes = 0;
  #lastArrivalMs = 0;
  #delivery: Scheduled | undefined;
  #isReading = true;
  readonly #inbox: (act: () => void) => void;
  state: "open" | "closing" | "ended" = "open";

  constructor(connection: Connection, at: { process: SimProcess; place: Place }, direction: Direction) {
    const { process, place } = at;
    this.#connection = connection;
    this.process = process;
    this.place = place;
    this.#direction = direction;
    this.#inbox = process.inOrder();
    process.onDeath(() => this.#died());
  }

  get bufferedAmount(): number {
    return Math.max(0, this.#outgoingBytes - kernelBytes);
  }

  send(frame: Uint8Array, done: (error?: Error) => void): void {
    if (this.state !== "open" || !this.process.mayAct()) return;
    const isTaken = this.#outgoingBytes + frame.length <= kernelBytes;
    this.#put({ kind: "frame", frame }, isTaken ? undefined : () => done());
    if (isTaken) this.process.defer(() => done());
  }

  ping(): void {
    if (this.state === "open" && this.process.mayAct()) this.#put({ kind: "ping" });
  }

  close(code: number, reason: string): void {
    if (this.state !== "open" || !this.process.mayAct()) return;
    this.state = "closing";
    this.#put({ kind: "close", code, reason });
    // A peer that never answers the close frame is not waited for.
    this.process.schedule(1_000, () => this.#end(1006, ""));
  }

  terminate(): void {
    if (this.state === "ended") return;
    this.#put({ kind: "reset" });
    this.process.defer(() => this.#end(1006, ""));
  }

  pause(): void {
    this.#isReading = false;
  }

  resume(): void {
    this.#isReading = true;
    this.peer?.pump();
  }

  /** The connection breaks under both ends: what was on its way is gone. */
  break(): void {
    if (this.state === "ended") return;
    this.process.schedule(this.#connection.network.random.between(0, 5), () => this.#end(1006, ""));
  }

  /** The machine vanished: nothing leaves any more. */
  vanish(): void {
    this.#outgoing.length = 0;
    this.#delivery?.cancel();
    this.state = "ended";
  }

  /** From now on what is sent and received is bytes. */
  useBytes(): void {
    const { network } = this.#connection;
    this.#bytes = new WebSocketBytes(
      {
        random: network.random,
        onMessage: (message) => this.#message(message),
        onBroken: (cause) => network.world.fail(cause),
      },
      { side: this.#direction === "toNode" ? "client" : "server" },
    );
  }

  #put(said: Message | { readonly kind: "reset" }, done?: () => void): void {
    const packet: Packet =
      this.#bytes === undefined || said.kind === "reset" ? said : { kind: "bytes", bytes: this.#bytes.write(said) };
    this.#outgoing.push({ packet, done });
    this.#outgoingBytes += sizeOf(packet);
    this.pump();
  }

  pump(): void {
    const { network } = this.#connection;
    const [first] = this.#outgoing;
    if (first === undefined || this.#delivery !== undefined || this.peer === undefined) return;
    const to = this.peer.place;
    if (network.isCut(this.place, to)) {
      network.whenWhole(this.place, to, () => this.pump());
      return;
    }
    if (!this.peer.#isReading && first.packet.kind !== "reset") return;
    const arrivalMs = Math.max(this.#lastArrivalMs, network.world.nowMs + network.delayMs(this.place, to));
    this.#lastArrivalMs = arrivalMs;
    this.#delivery = network.world.schedule(arrivalMs - network.world.nowMs, () => this.#arrive());
  }

  #arrive(): void {
    this.#delivery = undefined;
    const { network } = this.#connection;
    const peer = this.peer;
    if (peer === undefined || network.isCut(this.place, peer.place) || !peer.#isReading) {
      this.pump();
      return;
    }
    // What was sent together arrives together.
    const count = 1 + (network.random.chance(0.5) ? network.random.below(this.#outgoing.length) : 0);
    for (const { packet, done } of this.#outgoing.splice(0, count)) {
      this.#outgoingBytes -= sizeOf(packet);
      done?.();
      const arriving =
        this.#connection.gate === undefined ? packet : this.#connection.gate.pass(this.#direction, packet);
      if (arriving !== undefined) peer.#receive(arriving);
    }
    this.pump();
  }

  #receive(packet: Packet): void {
    if (this.state === "ended" || !this.process.isUp) {
      // Nobody is there: the kernel says so, when there is a way back.
      if (packet.kind !== "reset" && this.peer?.state !== "ended") this.#reset();
      return;
    }
    this.#inbox(() => this.#handle(packet));
  }

  #handle(packet: Packet): void {
    if (this.state === "ended") return;
    if (packet.kind === "reset") this.#end(1006, "");
    else if (packet.kind === "bytes") this.#bytes?.read(packet.bytes);
    else this.#message(packet);
  }

  #message(message: Message): void {
    if (this.state === "ended") return;
    switch (message.kind) {
      case "frame":
        this.handlers?.frame(message.frame);
        return;
      case "ping":
        if (this.state === "open") this.#put({ kind: "pong" });
        this.handlers?.ping();
        return;
      case "pong":
        this.handlers?.pong();
        return;
      case "close":
        if (this.state === "open") this.#put(message);
        this.#end(message.code, message.reason);
    }
  }

  #reset(): void {
    const { network } = this.#connection;
    const peer = this.peer;
    if (peer === undefined) return;
    if (this.#connection.gate?.isShut(this.#direction) === true) return;
    const tell = (): void => {
      if (network.isCut(this.place, peer.place)) network.whenWhole(this.place, peer.place, tell);
      else peer.#inbox(() => peer.#end(1006, ""));
    };
    network.world.schedule(network.delayMs(this.place, peer.place), tell);
  }

  #died(): void {
    if (this.state === "ended") return;
    this.state = "ended";
    // The kernel still sends what it took, or drops it, and closes.
    if (this.#connection.network.random.chance(0.5)) this.#outgoing.length = 0;
    this.#put({ kind: "reset" });
  }

  #end(code: number, reason: string): void {
    if (this.state === "ended") return;
    this.state = "ended";
    this.#connection.gone();
    this.handlers?.ended(code, reason);
  }
}

export class Connection {
  readonly network: Network;
  readonly ends: readonly [End, End];
  /** Counts and cuts bytes; undefined while frames travel whole. */
  gate: ByteGate | undefined;

  constructor(network: Network, a: { process: SimProcess; place: Place }, b: { process: SimProcess; place: Place }) {
    this.network = network;
    const first = new End(this, a, "toNode");
    const second = new End(this, b, "toAgent");
    first.peer = second;
    second.peer = first;
    this.ends = [first, second];
    network.connections.add(this);
    network.onConnection(this);
  }

  /** From now on it carries the bytes of frames, and is cut at the one given. */
  carryBytes(cut?: ByteCut): ByteGate {
    const gate = new ByteGate(cut, () => this.break());
    this.gate = gate;
    for (const end of this.ends) end.useBytes();
    return gate;
  }

  get isLive(): boolean {
    return this.ends.some(({ state }) => state !== "ended");
  }

  break(): void {
    for (const end of this.ends) end.break();
  }

  gone(): void {
    if (!this.isLive) this.network.connections.delete(this);
  }
}
