// The far side's certificate was refused by TLS: why, and whose is it?
// Invariant: what a stranger's certificate says is quoted, never believed.
import { X509Certificate } from "node:crypto";
import { subjectOf } from "../certs/subject.ts";
import { isValidAt } from "../certs/trust.ts";
import { describeOffset, describeSpan, isNoticeable } from "./clock-offset.ts";
import type { DialTarget } from "./dial.ts";
import type { DiagnosisDeps, Finding } from "./finding.ts";

export interface Shown {
  readonly target: DialTarget;
  readonly deps: DiagnosisDeps;
}

export const interceptionMend = (address: string): string =>
  `Exempt ${address} from TLS inspection: agents accept only their own cluster's certificates.`;

/** Undefined when the leaf is what it should be. */
export function findingOf(leaf: X509Certificate, { target, deps }: Shown): Finding | undefined {
  const { address, identity } = target;
  const subject = subjectOf(leaf);
  const isOurs = identity.nodesCas.some((pem) => wasIssuedBy(leaf, new X509Certificate(pem)));
  if (isOurs && !isValidAt(leaf, deps.clock.wallMs())) return ofTime(leaf, deps);
  if (isOurs && subject?.kind === "node" && subject.dnsNames.includes(identity.servername)) return undefined;
  if (isOurs) {
    const who = subject?.kind === "node" ? `node ${subject.id}` : shown(leaf.subject);
    return {
      kind: "other-node",
      reason: `another node of this cluster answers there: ${who}`,
      mend: `Correct the addresses that the nodes advertise (--advertise), or the NAT or router rule behind ${address}.`,
    };
  }
  if (subject === undefined) {
    const by = shown(leaf.issuer);
    return {
      kind: "intercepted",
      reason: `TLS intercepted by ${by}: it shows a certificate for ${shown(leaf.subject)}`,
      mend: `${interceptionMend(address)} If no proxy is meant to be there, the address leads to another service.`,
    };
  }
  const own = new X509Certificate(identity.cert);
  if (subject.cluster === subjectOf(own)?.cluster) {
    return {
      kind: "untrusted",
      reason: `node ${subject.id} shows a certificate of a nodes CA that this agent does not know`,
      mend: "Check that the node opens the same database as the one that enrolled this agent. After a new CA, register into a fresh --data-dir.",
    };
  }
  return {
    kind: "other-cluster",
    reason: `another Holdfast cluster's node answers there: cluster ${subject.cluster}, ${subject.kind} ${subject.id}`,
    mend: `Correct the address that this cluster's node advertises: ${address} belongs to another cluster.`,
  };
}

/** Names first: verifying with a key of another kind than the signature's is an error, not a no. */
export function wasIssuedBy(leaf: X509Certificate, authority: X509Certificate): boolean {
  return leaf.checkIssued(authority) && leaf.verify(authority.publicKey);
}

/** Our cluster's certificate outside its validity: is this machine's clock wrong, or is the certificate really over? */
function ofTime(leaf: X509Certificate, { clock, serverAheadMs }: DiagnosisDeps): Finding {
  const nowMs = clock.wallMs();
  const isEarly = nowMs < leaf.validFromDate.getTime();
  const valid = `the node's certificate is valid ${iso(leaf.validFromDate)} to ${iso(leaf.validToDate)}`;
  const says = `this machine's clock says ${iso(new Date(nowMs))}`;
  const offMs = isEarly ? leaf.validFromDate.getTime() - nowMs : nowMs - leaf.validToDate.getTime();
  const setClock = "Set this machine's clock (NTP), then run this again.";
  if (isNoticeable(serverAheadMs) && isValidAt(leaf, nowMs + serverAheadMs)) {
    return { kind: "clock", reason: `clock off: ${says}, ${describeOffset(serverAheadMs)}; ${valid}`, mend: setClock };
  }
  const isServerAgreed = serverAheadMs !== undefined && !isNoticeable(serverAheadMs);
  if (isServerAgreed && !isEarly) {
    return {
      kind: "node-expired",
      reason: `the node's certificate ended ${describeSpan(offMs)} ago (${iso(leaf.validToDate)}); this machine's clock agrees with the server's`,
      mend: "Restart that node and look at its log: a healthy node renews its certificate by itself.",
    };
  }
  if (isServerAgreed) {
    return {
      kind: "clock",
      reason: `the node's clock is at least ${describeSpan(offMs)} ahead: ${valid}; this machine's clock agrees with the server's`,
      mend: "Set the node's clock (NTP) and restart it.",
    };
  }
  const by = isEarly ? `at least ${describeSpan(offMs)} behind` : `${describeSpan(offMs)} past the end`;
  return {
    kind: "clock",
    reason: `clock off: ${says}, ${by}; ${valid}`,
    mend: `${setClock} If it is right, restart the node.`,
  };
}

const iso = (date: Date): string => date.toISOString().replace(/\.\d+Z$/, "Z");

/** The common name of a distinguished name, else its organisation, else all of it; quoted, and no longer than a line. */
function shown(name: string | undefined): string {
  const lines = (name ?? "").split("\n");
  const part = (key: string): string | undefined =>
    lines.find((line) => line.startsWith(`${key}=`))?.slice(key.length + 1);
  const text = part("CN") ?? part("O") ?? lines.join(", ");
  return `"${(text === "" ? "nobody" : text).slice(0, 120)}"`;
}
