// Decides who may have a session, before the upgrade is answered: a fresh TLS 1.3 handshake, a leaf of a current agents
// CA, and its thumbprint in the positive list. Both are required. A stranger is looked up before it is refused; while
// the database is away strangers get 503, for nobody can be judged.
import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import { issuerOf, type TrustAnchor } from "../../certs/trust.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { AgentId } from "../../shared/ids.ts";
import { subprotocol } from "../../shared/wire/version.ts";
import type { Admission } from "../store/agents.ts";
import { isFreshMutualTls } from "./tls-options.ts";

export interface Admitted {
  readonly agent: AgentId;
  readonly name: string;
  /** SHA-256 of the certificate, lower-case hex. */
  readonly thumbprint: string;
  readonly notAfterMs: number;
  /** Its first session has to be written down. */
  readonly certificate: "new" | "used";
}

interface Refused {
  readonly kind: "refused";
  readonly status: number;
  readonly reason: string;
  readonly retryAfterSeconds?: number;
  /** Whose certificate it is, when this cluster issued it. */
  readonly agent?: AgentId;
}

export type AdmitVerdict = { readonly kind: "admitted"; readonly admitted: Admitted } | Refused;

export interface AdmitDeps {
  readonly clock: Clock;
  readonly anchors: () => readonly TrustAnchor[];
  readonly findAdmission: (thumbprint: string) => Promise<Admission | undefined>;
  /** False while the node drains. */
  readonly isOpen: () => boolean;
}

export interface Candidate {
  readonly request: IncomingMessage;
  readonly socket: TLSSocket;
  readonly path: string;
}

const refused = (status: number, reason: string, retryAfterSeconds?: number): Refused => ({
  kind: "refused",
  status,
  reason,
  ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
});

export async function admit(deps: AdmitDeps, { request, socket, path }: Candidate): Promise<AdmitVerdict> {
  if (request.method !== "GET" || request.url !== path) return refused(404, "unknown path");
  if (request.headers["sec-websocket-protocol"] !== subprotocol)
    return refused(426, `expected sub-protocol ${subprotocol}`);
  if (!deps.isOpen()) return refused(503, "the node drains", 30);
  const certificate = isFreshMutualTls(socket) ? socket.getPeerX509Certificate() : undefined;
  if (certificate === undefined) return refused(403, "no fresh mutual TLS");
  if (issuerOf(certificate, deps.anchors(), deps) === undefined)
    return refused(403, "not issued by a current agents CA");
  const thumbprint = certificate.fingerprint256.replaceAll(":", "").toLowerCase();
  let row: Admission | undefined;
  try {
    row = await deps.findAdmission(thumbprint);
  } catch (cause) {
    if (AppError.from(cause).retryable) return refused(503, "the database is away", 2);
    throw cause;
  }
  if (row === undefined) return refused(403, "certificate unknown to this cluster");
  if (row.status !== "active") return { ...refused(403, `agent ${row.status}`), agent: row.agent };
  if (row.certificate !== "valid") return { ...refused(403, `certificate ${row.certificate}`), agent: row.agent };
  return {
    kind: "admitted",
    admitted: {
      agent: row.agent,
      name: row.name,
      thumbprint,
      notAfterMs: certificate.validToDate.getTime(),
      certificate: row.used ? "used" : "new",
    },
  };
}
