// The exact options with which an agent dials a node (SECURITY 4.5). Back-off and addresses are dial.ts's work.
// Invariant: only the pinned nodes CAs are trusted, the name is always checked, and no TLS session is ever reused.
import type { ConnectionOptions } from "node:tls";
import type { ClientOptions } from "ws";

export interface AgentTlsIdentity {
  /** The agent's private key, PEM. */
  readonly key: string;
  /** The agent's leaf, PEM. */
  readonly cert: string;
  /** PEM of every nodes CA that is trusted now; at least one. System roots never count. */
  readonly nodesCas: readonly string[];
  /** `node.<cluster>.internal` for seeds, `<node-id>.node.<cluster>.internal` for listed addresses. */
  readonly servername: string;
}

/**
 * For `new WebSocket(url, ["holdfast.v1"], …)`. `rejectUnauthorized` is spelled out because the environment variable
 * NODE_TLS_REJECT_UNAUTHORIZED weakens clients that leave it open. No `agent`: ws brings its own createConnection, with
 * which Node uses none; an https.Agent would keep sessions, and a resumed one is not verified again. A proxy agent
 * added by the dialler must set `maxCachedSessions: 0`. Message bounds are those of the node's side.
 */
export function agentTlsOptions(identity: AgentTlsIdentity): ClientOptions & Pick<ConnectionOptions, "servername"> {
  return {
    ca: [...identity.nodesCas],
    key: identity.key,
    cert: identity.cert,
    servername: identity.servername,
    rejectUnauthorized: true,
    minVersion: "TLSv1.3",
    handshakeTimeout: 15_000,
    followRedirects: false,
    perMessageDeflate: false,
    maxPayload: 1_048_576,
    maxFragments: 64,
    maxBufferedChunks: 1_024,
  };
}
