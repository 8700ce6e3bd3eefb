// An agent with a genuine certificate that speaks TLS, HTTP and WebSocket by hand, so that it can break the rules of each.
// Invariant: `ended` tells once how the node ended the connection, whatever was sent.
import { connect, type TLSSocket } from "node:tls";
import { loadIdentity, type Identity } from "../../../agent/identity.ts";
import { registerAgent } from "../../../agent/register.ts";
import { anyNodeName } from "../../../certs/profile.ts";
import { encodeFrame } from "../../../shared/wire/frame.ts";
import { agentPath, ownProtocols, subprotocol } from "../../../shared/wire/version.ts";
import type { TestCluster } from "../../harness/cluster.ts";
import { fromAgentSamples } from "../../surface/wire-messages.ts";
import { randomUUID } from "node:crypto";
import { join } from "node:path";

export interface Ending {
  /** The head of an HTTP answer that was no upgrade, or the code of the close frame; null where the socket just ended. */
  readonly by: string | number | null;
}

export const upgradeRequest = [
  `GET ${agentPath} HTTP/1.1`,
  "Host: node",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
  `Sec-WebSocket-Protocol: ${subprotocol}`,
  "",
  "",
].join("\r\n");

export class Rogue {
  readonly identity: Identity;
  readonly #port: number;
  readonly #lines = new Set<RogueLine>();
  readonly #journalId = randomUUID();
  #boots = 0;

  private constructor(identity: Identity, port: number) {
    this.identity = identity;
    this.#port = port;
  }

  /** Enrolled like any other; it is never run. */
  static async enrol(cluster: TestCluster, name: string): Promise<Rogue> {
    const { token } = await cluster.client.tokens.create({});
    const dataPath = join(cluster.folder, name);
    await registerAgent({ server: cluster.server.url, token, name, dataPath });
    const identity = await loadIdentity(dataPath);
    if (identity === undefined) throw new Error(`${name} has no identity`);
    return new Rogue(identity, cluster.server.agentPort);
  }

  /** Connections that the node has not ended. */
  get held(): number {
    return this.#lines.size;
  }

  /** TLS is up and nothing is said yet. */
  async dial(): Promise<RogueLine> {
    const { key, certificate, nodesCa, cluster } = this.identity;
    const identity = { key, cert: certificate, ca: nodesCa, servername: anyNodeName(cluster) };
    const socket = connect({ ...identity, minVersion: "TLSv1.3", host: "127.0.0.1", port: this.#port });
    const line = new RogueLine(socket);
    this.#lines.add(line);
    void line.ended.then(() => this.#lines.delete(line));
    await Promise.race([line.secured, line.ended]);
    return line;
  }

  /** As {@link dial}, and the upgrade is answered: a WebSocket, or the connection has ended. */
  async upgrade(): Promise<RogueLine> {
    const line = await this.dial();
    line.write(upgradeRequest);
    await Promise.race([line.upgraded, line.ended]);
    return line;
  }

  /** As {@link upgrade}, and the node has welcomed it: a session like any agent's. One at a time, for the newest boot counts. */
  async greet(): Promise<RogueLine> {
    const line = await this.upgrade();
    this.#boots += 1;
    const boot = { bootCounter: this.#boots, bootId: randomUUID(), journalId: this.#journalId };
    line.say({ ...fromAgentSamples.hello, ...boot, protocols: ownProtocols, attempts: [] });
    await line.answered(1);
    return line;
  }

  async leave(): Promise<void> {
    const lines = [...this.#lines];
    for (const line of lines) line.destroy();
    await Promise.all(lines.map(({ ended }) => ended));
  }
}

export class RogueLine {
  readonly secured: Promise<void>;
  readonly upgraded: Promise<void>;
  readonly ended: Promise<Ending>;
  readonly #socket: TLSSocket;
  #heard: Buffer = Buffer.alloc(0);
  #stage: "head" | "frames" = "head";
  #by: Ending["by"] = null;
  #frameArrived = Promise.withResolvers<void>();
  pongs = 0;
  messages = 0;

  constructor(socket: TLSSocket) {
    this.#socket = socket;
    const upgraded = Promise.withResolvers<void>();
    this.upgraded = upgraded.promise;
    this.secured = new Promise((resolve) => void socket.once("secureConnect", resolve));
    this.ended = new Promise((resolve) => void socket.once("close", () => resolve({ by: this.#by })));
    socket.on("error", () => undefined);
    socket.on("data", (bytes: Buffer) => {
      this.#heard = Buffer.concat([this.#heard, bytes]);
      if (this.#stage === "head") this.#readHead(upgraded.resolve);
      if (this.#stage === "frames") this.#readFrames();
    });
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  /** One TLS record at least. False: it should wait for {@link drained}. */
  write(bytes: Uint8Array | string): boolean {
    return !this.#socket.destroyed && this.#socket.write(bytes);
  }

  /** One whole message. */
  say(message: object): boolean {
    return this.write(frame({ opcode: "binary", payload: encodeFrame(message) }));
  }

  /** As a TLS record of its own, and not together with what is written next. */
  async writeAlone(bytes: Uint8Array): Promise<void> {
    const left = new Promise((resolve) => void this.#socket.write(bytes, resolve));
    await Promise.race([left, this.ended]);
  }

  /** What was written has left, or the connection has ended. */
  async drained(): Promise<void> {
    if (!this.#socket.writableNeedDrain) return;
    const drain = new Promise((resolve) => void this.#socket.once("drain", resolve));
    await Promise.race([drain, this.ended]);
  }

  /** Reads nothing any more. */
  deafen(): void {
    this.#socket.pause();
  }

  listen(): void {
    this.#socket.resume();
  }

  /** So many pongs have come, or the connection has ended. */
  ponged(count: number): Promise<void> {
    return this.#until(() => this.pongs >= count);
  }

  /** So many messages have come, the welcome counted, or the connection has ended. */
  answered(count: number): Promise<void> {
    return this.#until(() => this.messages >= count);
  }

  async #until(isDone: () => boolean): Promise<void> {
    while (!isDone() && this.isOpen) {
      this.#frameArrived = Promise.withResolvers<void>();
      await Promise.race([this.#frameArrived.promise, this.ended]);
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #readHead(upgraded: () => void): void {
    const end = this.#heard.indexOf("\r\n\r\n");
    if (end < 0) return;
    const [first = ""] = this.#heard.toString("latin1", 0, end).split("\r\n", 1);
    if (first.startsWith("HTTP/1.1 101")) {
      this.#stage = "frames";
      this.#heard = this.#heard.subarray(end + 4);
      upgraded();
    } else this.#by = first;
  }

  /** A node's frames are not masked, and those that matter here are short. */
  #readFrames(): void {
    while (this.#heard.length >= 2) {
      const short = this.#heard.readUInt8(1) & 0x7f;
      const headBytes = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (this.#heard.length < headBytes) return;
      const length =
        short < 126 ? short : short === 126 ? this.#heard.readUInt16BE(2) : Number(this.#heard.readBigUInt64BE(2));
      if (this.#heard.length < headBytes + length) return;
      const opcode = this.#heard.readUInt8(0) & 0x0f;
      const payload = this.#heard.subarray(headBytes, headBytes + length);
      if (opcode === 8) this.#by = payload.length < 2 ? null : payload.readUInt16BE(0);
      if (opcode === 2) this.messages += 1;
      if (opcode === 10) this.pongs += 1;
      this.#frameArrived.resolve();
      this.#heard = this.#heard.subarray(headBytes + length);
    }
  }
}

export interface FramePlan {
  readonly opcode: "continuation" | "binary" | "close" | "ping";
  readonly payload?: Uint8Array;
  readonly fin?: boolean;
  /** What the head says, whatever follows. */
  readonly declaredBytes?: bigint;
}

const opcodes = { continuation: 0, binary: 2, close: 8, ping: 9 } as const;

/** A client's frame, masked with zeros, its length in the longest form when it is declared. */
export function frame({ opcode, payload = new Uint8Array(0), fin = true, declaredBytes }: FramePlan): Buffer {
  const first = (fin ? 0x80 : 0) | opcodes[opcode];
  const length = declaredBytes ?? BigInt(payload.length);
  if (declaredBytes === undefined && length < 126n)
    return Buffer.concat([Buffer.from([first, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
  const head = Buffer.alloc(14);
  head.writeUInt8(first, 0);
  head.writeUInt8(0x80 | 127, 1);
  head.writeBigUInt64BE(length, 2);
  return Buffer.concat([head, payload]);
}
