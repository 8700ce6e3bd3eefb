// Doctor's checks of who the agent is: the identity's files fit each other, the certificate is this cluster's and lasts.
import { X509Certificate } from "node:crypto";
import { subjectOf } from "../../certs/subject.ts";
import { readTrustAnchor } from "../../certs/trust.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import { wasIssuedBy } from "../certificate-finding.ts";
import { describeSpan } from "../clock-offset.ts";
import type { Identity } from "../identity.ts";
import { readIdentity } from "../identity.ts";
import type { CheckRow } from "./check-row.ts";
import { failed, passed, warned } from "./check-row.ts";
import { asReadable } from "./files.ts";

export interface IdentityCheck {
  readonly row: CheckRow;
  readonly identity: Identity | undefined;
}

export async function checkIdentity(dataPath: string): Promise<IdentityCheck> {
  try {
    const identity = await readIdentity(dataPath);
    if (identity === undefined) {
      const mend = "Run `holdfast agent register --server URL --token T --all-nodes` with this --data-dir.";
      return { row: failed("identity", { seen: "this machine is not registered here", mend }), identity };
    }
    const { name, agentId, cluster } = identity;
    const seen = `${name}, agent ${agentId} of cluster ${cluster}; key and certificate fit each other`;
    return { row: passed("identity", { seen, detail: { name, agentId, cluster } }), identity };
  } catch (cause) {
    const { code, message, mend } = asReadable(cause);
    const isUnreadable = code === "file.unreadable";
    const again =
      "Put the files back from a copy, or register with a token of `holdfast tokens create --replace NAME` into a fresh --data-dir.";
    return { row: failed("identity", { seen: message, mend: isUnreadable ? mend : again }), identity: undefined };
  }
}

/** Renewal is due at half of the life: with less than this left it has not worked for a while. */
const warnBelow = 1 / 3;

export function checkCertificate(identity: Identity, { clock }: { readonly clock: Pick<Clock, "wallMs"> }): CheckRow {
  const leaf = new X509Certificate(identity.certificate);
  const [fromMs, toMs, nowMs] = [leaf.validFromDate.getTime(), leaf.validToDate.getTime(), clock.wallMs()];
  const detail = {
    subject: leaf.subject,
    issuer: leaf.issuer,
    names: leaf.subjectAltName ?? "",
    validFrom: leaf.validFromDate.toISOString(),
    validTo: leaf.validToDate.toISOString(),
    thumbprint: leaf.fingerprint256.replaceAll(":", "").toLowerCase(),
    daysLeft: Math.floor((toMs - nowMs) / 86_400_000),
  };
  const name = `\`holdfast tokens create --replace ${identity.name}\``;
  const again = `Create a token with ${name} and register with it: identity and journal are kept.`;
  const verdict = mismatch(identity, leaf);
  if (verdict !== undefined) return failed("certificate", { seen: verdict, mend: again, detail });
  if (nowMs > toMs) {
    const seen = `expired ${describeSpan(nowMs - toMs)} ago (${detail.validTo})`;
    return failed("certificate", { seen, mend: `If this machine's clock is right: ${again}`, detail });
  }
  if (nowMs < fromMs) {
    const seen = `valid only from ${detail.validFrom}; this machine's clock is at least ${describeSpan(fromMs - nowMs)} behind`;
    return failed("certificate", { seen, mend: "Set this machine's clock (NTP).", detail });
  }
  const left = `${describeSpan(toMs - nowMs)} left (until ${detail.validTo})`;
  if (toMs - nowMs < (toMs - fromMs) * warnBelow) {
    const mend =
      "A running agent renews at half of the life over any session: start it, and mend the nodes below; its log says why a renewal failed.";
    return warned("certificate", { seen: `${left}, less than a third of its life`, mend, detail });
  }
  return passed("certificate", { seen: `chains to this cluster's agents CA; ${left}`, detail });
}

/** Why it is not this agent's in this cluster; undefined when it is. Time is judged apart. */
function mismatch({ agentsCa, agentId, cluster }: Identity, leaf: X509Certificate): string | undefined {
  try {
    const anchors = agentsCa.map((certificatePem) => readTrustAnchor({ kind: "agents", certificatePem }));
    if (!anchors.some((anchor) => wasIssuedBy(leaf, anchor.certificate)))
      return "it does not chain to the agents CA in identity.json: it was issued by another";
  } catch (cause) {
    return AppError.from(cause).message;
  }
  const subject = subjectOf(leaf);
  if (subject?.kind === "agent" && subject.id === agentId && subject.cluster === cluster) return undefined;
  return `it speaks for ${leaf.subjectAltName ?? "nobody"}, not for agent ${agentId} of this cluster`;
}
