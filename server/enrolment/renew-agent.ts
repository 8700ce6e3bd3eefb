// Renewal over the session: the session proves the old certificate, the signature proves the new key. The old one stays
// valid until the new one was used once.
import { issueAgentLeaf } from "../../certs/leaf.ts";
import { leafLifetimeMs } from "../../certs/profile.ts";
import { readPublicKey, renewalTranscript, verifyTranscript } from "../../certs/public-key.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { AgentId } from "../../shared/ids.ts";
import type { Random } from "../../shared/random.ts";
import { sha256Hex } from "../../shared/thumbprint.ts";
import type { Renewed } from "../../shared/wire/renew.ts";
import {
  countIssued,
  dropEndedCertificates,
  findCertificate,
  storeAgentCertificate,
} from "../store/agent-certificates.ts";
import { recordAudit } from "../store/audit.ts";
import type { Database } from "../store/connection.ts";
import type { ClusterTrust } from "./cluster-trust.ts";

export interface RenewDeps {
  readonly database: Database;
  readonly trust: () => ClusterTrust;
  readonly clock: Clock;
  readonly random: Random;
}

export interface Renewal {
  readonly agent: AgentId;
  readonly spki: Uint8Array;
  readonly proof: Uint8Array;
}

/**
 * An agent needs two in a life, and one a minute while its disk takes none: each is a row, a signature and an audit row. Nodes
 * count without a lock: asked through several at once, an agent may get one more through each.
 */
export const mostIssued = { count: 30, withinMs: 3_600_000 } as const;

/**
 * Throws `enrolment.proof-invalid` when the new key did not sign, `rate.limited` when this agent was given thirty within an
 * hour, or within a certificate's life where that is shorter. The same key twice gets the same certificate.
 */
export function renewAgent(deps: RenewDeps, renewal: Renewal, lifetimeMs: number = leafLifetimeMs): Promise<Renewed> {
  const { cluster, agentsCa, agentsCaPems, nodesCaPems } = deps.trust();
  const transcript = renewalTranscript({ cluster, agentId: renewal.agent, publicKeySpki: renewal.spki });
  if (!verifyTranscript(readPublicKey(renewal.spki), transcript, renewal.proof)) {
    return Promise.reject(
      new AppError("enrolment.proof-invalid", "the renewal is not signed by the key it wants certified"),
    );
  }
  const spkiSha256 = sha256Hex(renewal.spki);
  const answer = (certificate: string): Renewed => ({
    type: "renewed",
    certificate,
    agentsCa: [...agentsCaPems],
    nodesCa: [...nodesCaPems],
  });
  return deps.database.transaction(async (sql) => {
    const earlier = await findCertificate(sql, renewal.agent, spkiSha256);
    if (earlier !== undefined) return answer(earlier);
    const withinMs = Math.min(mostIssued.withinMs, lifetimeMs);
    if ((await countIssued(sql, renewal.agent, withinMs)) >= mostIssued.count) {
      throw new AppError("rate.limited", `${mostIssued.count} certificates were issued within ${withinMs} ms`);
    }
    await dropEndedCertificates(sql, renewal.agent);
    const leaf = issueAgentLeaf(
      { authority: agentsCa, cluster, agentId: renewal.agent, publicKeySpki: renewal.spki, lifetimeMs },
      deps,
    );
    await storeAgentCertificate(sql, {
      thumbprint: leaf.thumbprint,
      agent: renewal.agent,
      spkiSha256,
      certificate: leaf.certificatePem,
      notAfterMs: leaf.notAfterMs,
    });
    await recordAudit(sql, {
      actor: `agent ${renewal.agent}`,
      address: "",
      action: "agent-renew",
      target: renewal.agent,
      detail: { thumbprint: leaf.thumbprint },
    });
    return answer(leaf.certificatePem);
  });
}
