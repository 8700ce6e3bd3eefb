// Opens one WebSocket to a node with exactly the options of tls-options.ts. The only importer of `ws` in the agent.
// Leaves greeting, back-off and meaning to connection.ts. Invariant: `onEnd` is called exactly once, and last.
import { X509Certificate } from "node:crypto";
import type { ClientRequest } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls, TLSSocket } from "node:tls";
import type { ConnectionOptions } from "node:tls";
import { callbackify } from "node:util";
import { WebSocket } from "ws";
import type { ClientOptions } from "ws";
import { systemClock } from "../shared/clock.ts";
import { AppError, describeError, errnoOf } from "../shared/errors.ts";
import type { FrameSocket } from "../shared/link.ts";
import { agentPath, subprotocol } from "../shared/wire/version.ts";
import { hostAndPort, ProxyRules } from "./proxy.ts";
import type { HostAndPort, Proxy } from "./proxy.ts";
import { openTunnel } from "./proxy-tunnel.ts";
import type { AgentTlsIdentity } from "./tls-options.ts";
import { agentTlsOptions } from "./tls-options.ts";

/** For the proxy and what it opens; TLS and the greeting have their own. */
const tunnelMs = 15_000;

export type DialEnd =
  /** The node answered the upgrade with a status: admission control or a refusal with words. */
  | { readonly kind: "rejected"; readonly status: number; readonly retryAfterMs: number; readonly detail: string }
  | { readonly kind: "failed"; readonly error: AppError }
  | { readonly kind: "closed"; readonly code: number; readonly reason: string };

/** How far a dial has come: sent, TCP connected, the node's certificate verified. */
export type DialStage = "dialled" | "connected" | "secured";

export interface DialHandlers {
  /** For diagnosis: a time-out is another one before TCP than after TLS. `secured` comes with the node's certificate. */
  readonly onStage?: (stage: DialStage, peer?: X509Certificate) => void;
  readonly onOpen: () => void;
  readonly onFrame: (frame: Uint8Array) => void;
  readonly onPong: () => void;
  readonly onEnd: (end: DialEnd) => void;
}

export interface DialTarget {
  /** `host:port` */
  readonly address: string;
  readonly identity: AgentTlsIdentity;
}

export type Dial = (target: DialTarget, handlers: DialHandlers) => FrameSocket;

/** Through the proxy that the rules name for an address, if any. */
export function createDial(rules: ProxyRules): Dial {
  return (target, handlers) => open(target, handlers, rules);
}

export const dial: Dial = createDial(new ProxyRules(undefined));

function open(target: DialTarget, handlers: DialHandlers, rules: ProxyRules): FrameSocket {
  // A peer that does not answer the close frame is not waited for: ws would keep the socket for 30 s.
  const tls = agentTlsOptions(target.identity);
  const place = hostAndPort(target.address);
  const proxy = rules.proxyFor(place);
  const options = {
    ...tls,
    ...(proxy === undefined
      ? {}
      : { createConnection: tunnelled(proxy, place, () => handlers.onStage?.("connected")) }),
    closeTimeout: 1_000,
    finishRequest(request: ClientRequest) {
      request.once("socket", (dialled) => {
        dialled.once("connect", () => handlers.onStage?.("connected"));
        dialled.once("secureConnect", () => handlers.onStage?.("secured", peerOf(dialled)));
      });
      request.end();
    },
  };
  let socket: WebSocket;
  try {
    socket = new WebSocket(`wss://${target.address}${agentPath}`, [subprotocol], options);
  } catch (cause) {
    return stillborn(dialError(target.address, cause), handlers);
  }
  let ending: DialEnd | undefined;
  let isEnded = false;
  const end = (fallback: DialEnd): void => {
    if (isEnded) return;
    isEnded = true;
    handlers.onEnd(ending ?? fallback);
  };
  let stream: Duplex | undefined;
  socket.once("upgrade", (response) => {
    stream = response.socket;
  });
  socket.on("open", handlers.onOpen);
  socket.on("pong", handlers.onPong);
  socket.on("message", (data: Buffer, isBinary: boolean) => {
    if (isBinary) handlers.onFrame(data);
    else socket.close(1003, "binary frames only");
  });
  socket.on("unexpected-response", (request, response) => {
    const retryAfterMs = retryAfterMsOf(response.headers["retry-after"]);
    ending = { kind: "rejected", status: response.statusCode ?? 0, retryAfterMs, detail: response.statusMessage ?? "" };
    request.destroy();
    response.destroy();
    end(ending);
  });
  socket.on("error", (cause) => {
    ending ??= { kind: "failed", error: expiryError(target, cause) ?? dialError(target.address, cause) };
  });
  socket.on("close", (code, reason) => end({ kind: "closed", code, reason: reason.toString("utf8") }));
  return {
    get bufferedAmount() {
      return socket.bufferedAmount;
    },
    send: (frame, done) => socket.send(frame, { binary: true, compress: false }, done),
    ping: () => socket.ping(),
    close: (code, reason) => socket.close(code, reason),
    terminate: () => socket.terminate(),
    // Frames sent in one tick leave in one system call.
    cork: () => stream?.cork(),
    uncork: () => process.nextTick(() => stream?.uncork()),
  };
}

/** TLS with the node itself, through what the proxy opened: the proxy sees none of it. */
function tunnelled(
  proxy: Proxy,
  place: HostAndPort,
  onTunnel: () => void,
): NonNullable<ClientOptions["createConnection"]> {
  const lead = async (given: ConnectionOptions): Promise<Duplex> => {
    const socket = await openTunnel(proxy, place, { timeoutMs: tunnelMs });
    onTunnel();
    return connectTls({ ...given, path: undefined, socket });
  };
  // Node's own form, which waits for the answer; the types of ws know only the one of net.
  return callbackify(lead) as unknown as NonNullable<ClientOptions["createConnection"]>;
}

/** A slip of a node, or of a proxy before it, must not keep an agent away until a person starts it anew. */
const retryAfterAtMostMs = 600_000;

/** Seconds only: the other form, a date, would need a clock that is right. */
function retryAfterMsOf(header: string | undefined): number {
  const ms = Number(header ?? 0) * 1_000;
  return ms > 0 ? Math.min(ms, retryAfterAtMostMs) : 0;
}

function peerOf(socket: Socket): X509Certificate | undefined {
  return socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
}

/**
 * An address that is none (`10.0.0.256:10943`) or a certificate that cannot be read throws before there is a socket. The
 * caller sees the end that every other failure has, after it has the socket.
 */
function stillborn(error: AppError, handlers: DialHandlers): FrameSocket {
  process.nextTick(() => handlers.onEnd({ kind: "failed", error }));
  const nothing = (): void => undefined;
  return {
    bufferedAmount: 0,
    send: (_frame, done) => done(error),
    ping: nothing,
    close: nothing,
    terminate: nothing,
    cork: nothing,
    uncork: nothing,
  };
}

/** A node refuses an expired certificate with a bare reset; only our own look at it can say why. */
function expiryError({ address, identity }: DialTarget, cause: unknown): AppError | undefined {
  // Nobody saw the certificate where nobody answered.
  if (neverConnected.has(errnoOf(cause) ?? "")) return undefined;
  const { validToDate } = new X509Certificate(identity.cert);
  const now = new Date(systemClock.wallMs());
  if (validToDate > now) return undefined;
  const message = `${address}: this agent's certificate expired at ${validToDate.toISOString()}; this machine's clock says ${now.toISOString()}`;
  return new AppError("tls.refused", message, {
    mend: "Set the clock if it is wrong, else enrol the agent again with a new token (`holdfast tokens create --replace NAME`).",
    cause,
  });
}

const neverConnected: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EAI_NODATA",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ETIMEDOUT",
]);

/** TLS refusals are told apart from a network that does not answer: the first needs a person, the second time. */
export function dialError(address: string, cause: unknown): AppError {
  // A proxy's own refusal has words already.
  if (cause instanceof AppError) return cause;
  const code = errnoOf(cause) ?? "";
  const isTls =
    code.startsWith("ERR_TLS") ||
    code.startsWith("ERR_SSL") ||
    code.includes("CERT") ||
    code.includes("SELF_SIGNED") ||
    code === "INVALID_PURPOSE" ||
    code.startsWith("UNABLE_TO");
  if (isTls) return new AppError("tls.refused", `${address}: ${describeError(cause)}`, { cause });
  return new AppError("cluster.unreachable", `${address}: ${describeError(cause)}`, { cause });
}
