// The exact options of the agent listener (SECURITY 4.5), in one place. Who may connect is decided in admit.ts.
// Invariant: sessions are never resumed. A resumed TLS session shows no certificate and skips every check of it, so
// the one object made here also goes into every setSecureContext.
import { constants } from "node:crypto";
import type { Server, ServerOptions } from "node:https";
import type { TLSSocket, TlsOptions } from "node:tls";
import type { ServerOptions as WebSocketServerOptions } from "ws";

export interface AgentListenerIdentity {
  /** The node's private key, PEM. */
  readonly key: string;
  /** The node's leaf, PEM, from the nodes CA. */
  readonly cert: string;
  /** PEM of the current agents CA and, during rotation, the next one. Never a system root, never an intermediate. */
  readonly ca: readonly string[];
}

/**
 * For `https.createServer` and, the same object again, for each `setSecureContext`. TLS 1.3 only; a client certificate
 * of an agents CA is required; handshake within 10 s (Node: 120 s). No TLS callbacks: one that throws ends the
 * process (CVE-2026-21637). Key exchange groups stay Node's own: they include X25519MLKEM768.
 */
export function agentListenerTls(identity: AgentListenerIdentity): TlsOptions {
  return {
    key: identity.key,
    cert: identity.cert,
    ca: [...identity.ca],
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    secureOptions: constants.SSL_OP_NO_TICKET,
    ALPNProtocols: ["http/1.1"],
    handshakeTimeout: 10_000,
  };
}

/**
 * Node gives each socket a copy of the protocols out of its buffer pool and keeps it, and with it the 64 KiB it is part of:
 * 5 KiB of memory for each idle agent. Nobody looks at it once the handshake is over.
 */
export function forgetOfferedProtocols(socket: TLSSocket): void {
  const options: unknown = Reflect.get(socket, "_tlsOptions");
  if (typeof options === "object" && options !== null && "ALPNProtocols" in options) options.ALPNProtocols = undefined;
}

/** HTTP limits before the upgrade: header 8 KiB (Node: 16), headers 10 s (60), request 15 s (300), idle 5 s. */
export const agentListenerHttp = {
  maxHeaderSize: 8_192,
  headersTimeout: 10_000,
  requestTimeout: 15_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 2_000,
  insecureHTTPParser: false,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: 15_000,
} as const satisfies ServerOptions;

export interface AgentListenerLimits {
  /** Sockets at once, default 20,000, bounded by memory at about 67 KiB each; one more is closed at accept. */
  readonly maxConnections?: number;
}

/** Limits that only exist as properties of the server: connections, and 64 headers (Node: 2,000; CVE-2024-37890). */
export function limitAgentListener(server: Server, limits: AgentListenerLimits = {}): void {
  server.maxConnections = limits.maxConnections ?? 20_000;
  server.maxHeadersCount = 64;
}

/**
 * Messages of 1 MiB in at most 64 fragments (ws: 100 MiB, 16,384), 1,024 chunks of buffer, 10 unanswered pongs
 * (60), no compression, 5 s to close. A message above the bound ends the session with 1009 or 1008.
 */
export const agentWebSocketServer = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: 1_048_576,
  maxFragments: 64,
  maxBufferedChunks: 1_024,
  maxPendingAutoPongs: 10,
  skipUTF8Validation: false,
  closeTimeout: 5_000,
} as const satisfies WebSocketServerOptions & Record<string, unknown>;

/** Whether the socket carries a certificate checked in this very handshake; anything else is refused in admit. */
export function isFreshMutualTls(socket: TLSSocket): boolean {
  return socket.authorized && !socket.isSessionReused() && socket.getProtocol() === "TLSv1.3";
}
