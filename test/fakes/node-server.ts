// A far peer for the agent over a real mTLS WebSocket: fake nodes that share one store of attempts, as real ones share a
// database. It keeps the protocol's rules a node must keep (offsets, home numbers, results only with complete logs) and
// counts every breach of them by the agent.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:https";
import type { Server } from "node:https";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import { agentListenerHttp, agentListenerTls } from "../../server/gateway/tls-options.ts";
import { systemClock } from "../../shared/clock.ts";
import type { AttemptId, NodeId } from "../../shared/ids.ts";
import { attemptIdSchema, createIdSource, newId, taskIdSchema } from "../../shared/ids.ts";
import { readFrame } from "../../shared/link.ts";
import { SystemRandom } from "../../shared/random.ts";
import type { Lane, Stream } from "../../shared/task.ts";
import { taskSpecSchema } from "../../shared/task.ts";
import { encodeFrame } from "../../shared/wire/frame.ts";
import type { FromAgent } from "../../shared/wire/from-agent.ts";
import { fromAgentSchema } from "../../shared/wire/from-agent.ts";
import type { FromNode } from "../../shared/wire/from-node.ts";
import type { Hello } from "../../shared/wire/hello.ts";
import type { Log } from "../../shared/wire/log.ts";
import { lengthOf } from "../../shared/wire/log.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import type { OfferItem } from "../../shared/wire/offer.ts";
import type { Renew, Renewed } from "../../shared/wire/renew.ts";
import type { ResultRecord } from "../../shared/wire/result.ts";
import type { ProgressLine } from "../../shared/progress-line.ts";
import { nodeCapability, type Verdict } from "../../shared/wire/welcome.ts";
import type { TestAuthorities, TestLeaf } from "../harness/certs.ts";

const ids = createIdSource({ clock: systemClock, random: new SystemRandom() });
const knownTypes: ReadonlySet<string> = new Set(fromAgentSchema.options.map((option) => option.shape.type.value));

interface StreamRow {
  next: number;
  readonly hash: ReturnType<typeof createHash>;
  /** The stored bytes, kept up to `FakeStore.keptBytes`. */
  bytes: Buffer;
  omitted: number;
}

export interface AttemptRow {
  readonly attempt: AttemptId;
  homeNo: number;
  node: NodeId | undefined;
  readonly out: StreamRow;
  readonly err: StreamRow;
  accepted: number;
  started: number;
  result: ResultRecord | undefined;
  resultsSeen: number;
  refusals: Extract<FromAgent, { type: "refuse" }>["items"];
  states: Extract<FromAgent, { type: "state" }>["items"];
  /** As it came: what, and through which node. */
  readonly progress: (ProgressLine & { readonly node: NodeId })[];
}

/** What the nodes share. `breaches` must stay empty in every test. */
export class FakeStore {
  readonly rows = new Map<AttemptId, AttemptRow>();
  readonly breaches: string[] = [];
  readonly #watchers = new Set<() => void>();
  keptBytes = 1024 * 1024;
  /** When false, results are swallowed and never acknowledged. */
  acknowledges = true;
  windowBytes = 1024 * 1024;

  row(attempt: AttemptId): AttemptRow {
    const stream = (): StreamRow => ({ next: 0, hash: createHash("sha256"), bytes: Buffer.alloc(0), omitted: 0 });
    let row = this.rows.get(attempt);
    if (row === undefined) {
      row = {
        attempt,
        homeNo: 0,
        node: undefined,
        out: stream(),
        err: stream(),
        accepted: 0,
        started: 0,
        result: undefined,
        resultsSeen: 0,
        refusals: [],
        states: [],
        progress: [],
      };
      this.rows.set(attempt, row);
    }
    return row;
  }

  changed(): void {
    for (const watch of this.#watchers) watch();
  }

  /** Resolves when `check` gives a value; rejects with what `describe` says after the deadline. */
  until<T>(what: string, check: () => T | undefined | false, withinMs = 30_000): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const value = check();
        if (value === undefined || value === false) return;
        finish();
        resolve(value);
      };
      const finish = (): void => {
        this.#watchers.delete(look);
        timer.cancel();
        poll.cancel();
      };
      const timer = systemClock.after(withinMs, () => {
        finish();
        reject(new Error(`waited ${withinMs} ms for: ${what}\n${this.describe()}`));
      });
      // Ground truth on disk changes without a message.
      const poll = systemClock.every(20, look);
      this.#watchers.add(look);
      look();
    });
  }

  describe(): string {
    const rows = [...this.rows.values()].map(
      ({ attempt, homeNo, accepted, started, out, err, result, refusals, states }) =>
        JSON.stringify({
          attempt,
          homeNo,
          accepted,
          started,
          out: out.next,
          err: err.next,
          result,
          refusals,
          states,
          tail: out.bytes.subarray(-200).toString(),
        }),
    );
    return [...rows, ...this.breaches.map((breach) => `BREACH ${breach}`)].join("\n");
  }
}

export interface FakeNodeOptions {
  readonly authorities: TestAuthorities;
  readonly store: FakeStore;
  readonly name: string;
  /** The list in `welcome`; by default this node alone. */
  readonly list?: () => NodeList;
  readonly timings?: { readonly pingMs: number; readonly silenceMs: number };
  readonly verdict?: (attempt: AttemptId) => Verdict;
  readonly onRenew?: (message: Renew) => Renewed;
  /** Instead of a welcome: close with this code. */
  readonly refuseWith?: number;
  /** Instead of an upgrade: answer 503 with this Retry-After, while it is above 0. */
  readonly busy?: { times: number; readonly retryAfterSeconds: number };
  /** In `welcome`; by default what a node of today knows. */
  readonly capabilities?: string[];
  /** Of the clock it tells probes. */
  readonly clockAheadMs?: number;
}

export interface FakeSession {
  readonly socket: WebSocket;
  readonly hello: Hello;
  /** As the agent's last `ready` said. */
  credit: { work: number; system: number };
  offered: { work: number; system: number };
  readonly thumbprint: string;
}

export interface OfferOptions {
  readonly attempt?: AttemptId;
  readonly lane?: Lane;
  readonly offerNo?: number;
  readonly journalId?: OfferItem["journalId"];
  readonly startWindowMs?: number;
  readonly ignoreCredit?: boolean;
  readonly secrets?: OfferItem["secrets"];
}

export class FakeNode {
  readonly id: NodeId;
  readonly #options: FakeNodeOptions;
  readonly #leaf: TestLeaf & { readonly nodeId: NodeId };
  #server: Server | undefined;
  readonly #sockets = new Set<Duplex>();
  readonly sessions: FakeSession[] = [];
  /** Every session there ever was, probes included. */
  readonly hellos: Hello[] = [];
  readonly received: FromAgent[] = [];
  port = 0;

  constructor(options: FakeNodeOptions) {
    this.#options = options;
    this.#leaf = options.authorities.nodeLeaf({ lifetimeMs: 3_600_000 });
    this.id = this.#leaf.nodeId;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get session(): FakeSession | undefined {
    return this.sessions.at(-1);
  }

  async start(): Promise<void> {
    const { authorities, busy } = this.#options;
    const tls = agentListenerTls({
      key: this.#leaf.privateKeyPem,
      cert: this.#leaf.certificatePem,
      ca: [authorities.agents.certificatePem],
    });
    const server = createServer({ ...tls, ...agentListenerHttp });
    const upgrades = new WebSocketServer({ noServer: true, maxPayload: 1_048_576, perMessageDeflate: false });
    server.on("connection", (socket: Duplex) => {
      this.#sockets.add(socket.once("close", () => this.#sockets.delete(socket)));
      socket.on("error", () => undefined);
    });
    server.on("tlsClientError", (_cause, socket) => socket.destroy());
    server.on("upgrade", (request, socket, head) => {
      if (busy !== undefined && busy.times > 0) {
        busy.times -= 1;
        socket.end(
          `HTTP/1.1 503 Service Unavailable\r\nRetry-After: ${busy.retryAfterSeconds}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
        );
        return;
      }
      const { fingerprint256 } = Reflect.get(socket, "getPeerX509Certificate").call(socket) as {
        fingerprint256: string;
      };
      if (request.url !== "/agent") this.#options.store.breaches.push(`path ${String(request.url)}`);
      upgrades.handleUpgrade(request, socket, head, (peer) => this.#serve(peer, fingerprint256));
    });
    server.listen({ host: "127.0.0.1", port: this.port });
    await once(server, "listening");
    const address = server.address();
    if (typeof address !== "object" || address === null) throw new Error("no port");
    this.port = address.port;
    this.#server = server;
  }

  /** As a killed process: sockets reset, the same port can be used again. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    this.sessions.length = 0;
    for (const socket of this.#sockets) socket.destroy();
    server.close();
    await once(server, "close");
  }

  /** Cuts the agent's connections and goes on listening. */
  cut(): void {
    this.sessions.length = 0;
    for (const socket of this.#sockets) socket.destroy();
  }

  send(message: FromNode): void {
    this.session?.socket.send(encodeFrame(message));
  }

  listed(): NodeList["nodes"][number] {
    return { id: this.id, name: this.#options.name, addresses: [this.address] };
  }

  /** Offers one attempt to the agent on this node's session, as its credit allows. */
  async offer(spec: object, options: OfferOptions = {}): Promise<AttemptId> {
    const { store } = this.#options;
    const lane = options.lane ?? "work";
    const session = await store.until(`credit of ${this.#options.name}`, () => {
      const open = this.session;
      if (open === undefined) return undefined;
      return options.ignoreCredit === true || open.credit[lane] > open.offered[lane] ? open : undefined;
    });
    const attempt = options.attempt ?? newId(ids, attemptIdSchema);
    store.row(attempt);
    session.offered[lane] += 1;
    const item: OfferItem = {
      attempt,
      task: newId(ids, taskIdSchema),
      attemptNumber: 1,
      offerNo: options.offerNo ?? 1,
      journalId: options.journalId ?? session.hello.journalId,
      lane,
      startWindowMs: options.startWindowMs ?? 3_000,
      spec: taskSpecSchema.parse(spec),
      ...(options.secrets === undefined ? {} : { secrets: options.secrets }),
    };
    this.send({ type: "offer", items: [item] });
    return attempt;
  }

  run(script: string, more: object = {}, options: OfferOptions = {}): Promise<AttemptId> {
    return this.offer({ kind: "script", script, ...more }, options);
  }

  #serve(socket: WebSocket, thumbprint: string): void {
    let session: FakeSession | undefined;
    socket.on("error", () => undefined);
    socket.on("close", () => {
      const at = session === undefined ? -1 : this.sessions.indexOf(session);
      if (at >= 0) this.sessions.splice(at, 1);
      this.#options.store.changed();
    });
    socket.on("message", (data: Buffer) => {
      const incoming = readFrame(data, fromAgentSchema, knownTypes);
      if (incoming.kind === "refused") {
        this.#options.store.breaches.push(`frame: ${incoming.reason}`);
        return;
      }
      const { message } = incoming;
      this.received.push(
        message.type === "log" ? { ...message, content: { omitted: lengthOf(message.content) } } : message,
      );
      if (this.received.length > 20_000) this.received.splice(0, 10_000);
      if (message.type === "hello") session = this.#greet(socket, message, thumbprint);
      else if (session === undefined) this.#options.store.breaches.push(`${message.type} before hello`);
      else this.#take(session, message);
      this.#options.store.changed();
    });
  }

  #greet(socket: WebSocket, hello: Hello, thumbprint: string): FakeSession | undefined {
    const { refuseWith, name, timings, verdict } = this.#options;
    this.hellos.push(hello);
    if (refuseWith !== undefined) {
      socket.close(refuseWith, "refused by the fake");
      return undefined;
    }
    const list = this.#options.list?.() ?? { version: 1, want: 0, nodes: [this.listed()] };
    const wallMs = Math.round(systemClock.wallMs() + (this.#options.clockAheadMs ?? 0));
    const welcome: FromNode = {
      type: "welcome",
      protocol: 1,
      node: { id: this.id, name },
      timings: timings ?? { pingMs: 10_000, silenceMs: 25_000 },
      verdicts: hello.attempts.map(({ attempt }) => ({ attempt, verdict: verdict?.(attempt) ?? "keep" })),
      nodes: list,
      ...(hello.probe === true ? { wallMs } : {}),
      capabilities: this.#options.capabilities ?? Object.values(nodeCapability),
    };
    socket.send(encodeFrame(welcome));
    if (hello.probe === true) {
      socket.close(1001, "probe answered");
      return undefined;
    }
    const session: FakeSession = {
      socket,
      hello,
      thumbprint,
      credit: { work: 0, system: 0 },
      offered: { work: 0, system: 0 },
    };
    for (const old of this.sessions.splice(0)) old.socket.close(4001, "replaced");
    this.sessions.push(session);
    return session;
  }

  #take(session: FakeSession, message: FromAgent): void {
    const { store } = this.#options;
    switch (message.type) {
      case "ready":
        if (message.work < session.credit.work || message.system < session.credit.system)
          store.breaches.push("credit went down");
        session.credit = { work: message.work, system: message.system };
        return;
      case "accept":
        for (const { attempt, homeNo } of message.items) {
          const row = store.row(attempt);
          row.accepted += 1;
          row.homeNo = Math.max(row.homeNo, homeNo);
          row.node = this.id;
        }
        return;
      case "started":
        for (const { attempt } of message.items) store.row(attempt).started += 1;
        return;
      case "refuse":
        for (const item of message.items) store.row(item.attempt).refusals.push(item);
        return;
      case "state":
        for (const item of message.items) store.row(item.attempt).states.push(item);
        return;
      case "progress":
        for (const { attempt, percent, message: words } of message.items)
          store.row(attempt).progress.push({ percent, message: words, node: this.id });
        return;
      case "resume":
        for (const { attempt, homeNo } of message.items) {
          const row = store.row(attempt);
          if (homeNo > row.homeNo) {
            row.homeNo = homeNo;
            row.node = this.id;
          }
          for (const stream of ["out", "err"] as const) this.#resumeFrom(session, row, stream);
        }
        return;
      case "log":
        this.#log(session, message);
        return;
      case "result":
        for (const { attempt, record } of message.items) {
          const row = store.row(attempt);
          row.resultsSeen += 1;
          if (row.out.next < record.out.length || row.err.next < record.err.length) {
            for (const stream of ["out", "err"] as const) this.#resumeFrom(session, row, stream);
            continue;
          }
          if (row.result !== undefined && JSON.stringify(row.result) !== JSON.stringify(record))
            store.breaches.push(`a second, different result of ${attempt}`);
          if (!store.acknowledges) continue;
          row.result ??= record;
          session.socket.send(
            encodeFrame({ type: "result-ack", items: [{ attempt, verdict: "acknowledged" }] } satisfies FromNode),
          );
        }
        return;
      case "renew":
        if (this.#options.onRenew !== undefined) session.socket.send(encodeFrame(this.#options.onRenew(message)));
        return;
      default:
        return;
    }
  }

  #log(session: FakeSession, message: Log): void {
    const { store } = this.#options;
    const row = store.row(message.attempt);
    const stream = row[message.stream];
    if (row.homeNo > message.homeNo) return;
    if (message.offset !== stream.next) {
      this.#resumeFrom(session, row, message.stream);
      return;
    }
    if ("bytes" in message.content) {
      stream.hash.update(message.content.bytes);
      if (stream.bytes.length < store.keptBytes)
        stream.bytes = Buffer.concat([stream.bytes, message.content.bytes]).subarray(0, store.keptBytes);
    } else stream.omitted += message.content.omitted;
    stream.next += lengthOf(message.content);
    const ack: FromNode = {
      type: "log-ack",
      attempt: message.attempt,
      stream: message.stream,
      offset: stream.next,
      window: store.windowBytes,
    };
    session.socket.send(encodeFrame(ack));
  }

  #resumeFrom(session: FakeSession, row: AttemptRow, stream: Stream): void {
    const message: FromNode = {
      type: "resume-from",
      attempt: row.attempt,
      stream,
      offset: row[stream].next,
      window: this.#options.store.windowBytes,
      homeNo: row.homeNo,
    };
    session.socket.send(encodeFrame(message));
  }
}

/** The digest of what was stored so far. */
export function storedSha256(row: StreamRow): string {
  return row.hash.copy().digest("hex");
}
