// The agents' door: TLS 1.3 with a client certificate, one path, one sub-protocol. Every socket passes admit before the
// upgrade is answered; frames go to the agent's session. Bounds what strangers can hold; knows nothing of work.
import { createServer, type Server } from "node:https";
import type { IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { WebSocketServer, type WebSocket } from "ws";
import type { Background } from "../../shared/background.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError, describeError, errnoOf } from "../../shared/errors.ts";
import type { AgentId } from "../../shared/ids.ts";
import type { FrameSocket } from "../../shared/link.ts";
import { outliveErrors } from "../../shared/listener-errors.ts";
import type { Logger } from "../../shared/logger.ts";
import { Seldom } from "../../shared/seldom.ts";
import type { Service } from "../../shared/service.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import { agentPath, subprotocol } from "../../shared/wire/version.ts";
import { admit, type AdmitDeps, type Admitted } from "./admit.ts";
import type { AgentSession } from "./agent-session.ts";
import { AgentSocket } from "./agent-socket.ts";
import { Newcomers, type Newcomer } from "./newcomers.ts";
import { WaitingLine, type WaitingLineOptions } from "./waiting-line.ts";
import {
  agentListenerHttp,
  agentListenerTls,
  agentWebSocketServer,
  forgetOfferedProtocols,
  limitAgentListener,
  type AgentListenerIdentity,
} from "./tls-options.ts";

export interface ListenerDeps extends AdmitDeps {
  readonly background: Background;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly openSession: (socket: FrameSocket, admitted: Admitted) => AgentSession;
  /** `agent` when its certificate is this cluster's. */
  readonly onRefused: (reason: string, agent?: AgentId) => void;
}

export interface ListenerOptions {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  readonly identity: AgentListenerIdentity;
  /** Upgrades judged at once; more are answered 503 with Retry-After. Default 1,000: each has had its handshake already. */
  readonly admissionsAtOnce?: number;
  readonly line?: WaitingLineOptions;
}

export class AgentListener implements Service {
  readonly #deps: ListenerDeps;
  readonly #options: ListenerOptions;
  readonly #server: Server;
  readonly #webSockets: WebSocketServer;
  readonly #sockets = new Set<WebSocket>();
  /** Who has not shown a certificate holds little. */
  readonly #line: WaitingLine<Socket>;
  /** Those in the line, by peer address and port: TLS does not say on which socket it runs. */
  readonly #strangers = new Map<string, Socket>();
  /** Who has shown one holds little until it has greeted. */
  readonly #newcomers = new Newcomers<Newcomer & { cutOff(): void }>((newcomer) => {
    this.#deps.onRefused("too many connections at once", newcomer.agent);
    newcomer.cutOff();
  });
  readonly #seldom: Seldom;
  #judging = 0;

  constructor(deps: ListenerDeps, options: ListenerOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#seldom = new Seldom(deps);
    this.#server = createServer(
      { ...agentListenerTls(options.identity), ...agentListenerHttp, pauseOnConnect: true },
      (_request, response) => {
        response.writeHead(404).end();
      },
    );
    limitAgentListener(this.#server);
    this.#webSockets = new WebSocketServer({ ...agentWebSocketServer, handleProtocols: () => subprotocol });
    // What TLS listens with is kept, to be called when it is a socket's turn; until then nobody reads from it.
    const handshakes = this.#server.listeners("connection");
    this.#server.removeAllListeners("connection");
    this.#line = new WaitingLine(
      {
        clock: deps.clock,
        begin: (socket) => {
          for (const begin of handshakes) begin.call(this.#server, socket);
        },
        onRefused: (reason) => deps.onRefused(reason),
      },
      options.line,
    );
    this.#server.on("connection", (socket: Socket) => this.#stranger(socket));
    this.#server.on("tlsClientError", (cause, socket) => {
      deps.onRefused("tls");
      deps.logger.debug({ code: errnoOf(cause), peer: socket.remoteAddress }, `TLS refused: ${describeError(cause)}`);
      socket.destroy();
    });
    this.#server.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
  }

  get port(): number {
    const address: AddressInfo | string | null = this.#server.address();
    if (address === null || typeof address === "string")
      throw new AppError("internal", "the agent listener is not started");
    return address.port;
  }

  start(): Promise<void> {
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      const failed = (cause: Error): void =>
        reject(
          new AppError(
            "config.invalid",
            `the agent listener cannot listen on ${host}:${port}: ${describeError(cause)}`,
            { cause },
          ),
        );
      this.#server.once("error", failed);
      this.#server.listen(port, host, () => {
        outliveErrors(this.#server, this.#deps, "agent listener");
        this.#server.off("error", failed);
        resolve();
      });
    });
  }

  /** Replaces key, leaf and trusted CAs for new connections; live ones stay. */
  useIdentity(identity: AgentListenerIdentity): void {
    this.#server.setSecureContext(agentListenerTls(identity));
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => void this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.close(closeCode.goingAway, "the node stops");
    const limit = this.#deps.clock.after(1_000, () => {
      for (const socket of this.#sockets) socket.terminate();
      this.#line.destroyAll();
    });
    if (this.#sockets.size === 0) this.#line.destroyAll();
    await closed;
    limit.cancel();
  }

  #stranger(socket: Socket): void {
    const { remoteAddress = "", remotePort = 0 } = socket;
    const key = `${remoteAddress} ${remotePort}`;
    this.#strangers.set(key, socket);
    // Another may have the same address and port by then: nobody sees a socket end that waits unread.
    socket.once("close", () => {
      if (this.#strangers.get(key) === socket) this.#strangers.delete(key);
    });
    // Its errors are TLS's later on; one that breaks while it waits must not end the process.
    endOnError(socket);
    this.#line.arrive(socket);
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    endOnError(socket);
    if (!(socket instanceof TLSSocket)) {
      socket.destroy();
      return;
    }
    if (this.#judging >= (this.#options.admissionsAtOnce ?? 1_000)) {
      refuse(socket, { status: 503, reason: "too many agents connect at once", retryAfterSeconds: 1 });
      this.#deps.onRefused("busy");
      return;
    }
    this.#judging += 1;
    // It has shown a certificate of ours, and is bounded as one that is judged: a slow database makes no stranger of it.
    this.#leaveLine(socket);
    this.#deps.background.run("admit", async () => {
      try {
        const verdict = await admit(this.#deps, { request, socket, path: agentPath });
        if (verdict.kind === "refused") {
          this.#deps.onRefused(verdict.reason, verdict.agent);
          // It dials again and again; the figures count each time.
          if (this.#seldom.isDue(`${verdict.agent ?? socket.remoteAddress} ${verdict.reason}`))
            this.#deps.logger.info({ peer: socket.remoteAddress, reason: verdict.reason }, "agent refused");
          refuse(socket, verdict);
        } else
          this.#webSockets.handleUpgrade(request, socket, head, (webSocket) =>
            this.#opened(webSocket, socket, verdict.admitted),
          );
      } catch (cause) {
        this.#deps.logger.error({ err: cause }, "admission failed");
        refuse(socket, { status: 503, reason: "the node cannot judge right now", retryAfterSeconds: 2 });
      } finally {
        this.#judging -= 1;
      }
    });
  }

  #leaveLine({ remoteAddress = "", remotePort = 0 }: Socket): void {
    const key = `${remoteAddress} ${remotePort}`;
    const raw = this.#strangers.get(key);
    this.#strangers.delete(key);
    if (raw !== undefined) this.#line.forget(raw);
  }

  #opened(webSocket: WebSocket, stream: TLSSocket, admitted: Admitted): void {
    forgetOfferedProtocols(stream);
    this.#sockets.add(webSocket);
    const session = this.#deps.openSession(new AgentSocket(webSocket, stream), admitted);
    const newcomer = {
      agent: admitted.agent,
      get identity() {
        return session.identity;
      },
      // Says why, and waits for nobody.
      cutOff() {
        session.close(closeCode.unavailable, "too many connections of this agent at once");
        webSocket.terminate();
      },
    };
    const expiry = this.#deps.clock.after(admitted.notAfterMs - this.#deps.clock.wallMs(), () =>
      session.close(closeCode.expired, "the agent's certificate has expired"),
    );
    webSocket.on("message", (data, isBinary) => {
      if (isBinary && data instanceof Buffer) session.received(data);
      else session.close(closeCode.invalidFrame, "expected binary frames");
    });
    webSocket.on("ping", () => session.heard());
    webSocket.on("pong", () => session.ponged());
    webSocket.on("error", (cause) =>
      this.#deps.logger.debug({ err: cause, agent: admitted.name }, "agent socket failed"),
    );
    webSocket.on("close", () => {
      expiry.cancel();
      this.#sockets.delete(webSocket);
      this.#newcomers.leave(newcomer);
      session.ended();
    });
    this.#newcomers.arrive(newcomer);
    session.start();
  }
}

/** Apart from {@link AgentListener}'s own functions: what one of them closes over would live as long as the socket. */
function endOnError(socket: Duplex): void {
  socket.on("error", () => socket.destroy());
}

interface Refusal {
  readonly status: number;
  readonly reason: string;
  readonly retryAfterSeconds?: number;
}

function refuse(socket: Duplex, { status, reason, retryAfterSeconds }: Refusal): void {
  const body = JSON.stringify({ message: reason });
  const retry = retryAfterSeconds === undefined ? "" : `Retry-After: ${retryAfterSeconds}\r\n`;
  // In the status line too: it is the part of a refused upgrade that WebSocket clients hand on, and agents log.
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nConnection: close\r\nContent-Type: application/json\r\n${retry}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
