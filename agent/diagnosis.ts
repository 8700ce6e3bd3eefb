// Says in one word, one sentence and one mend why an address did not greet. Leaves dialling to probe.ts.
// Invariant: what a stranger's certificate says is quoted, never believed; every failure has a mend.
import { X509Certificate } from "node:crypto";
import { subjectOf } from "../certs/subject.ts";
import type { Clock } from "../shared/clock.ts";
import type { AppError } from "../shared/errors.ts";
import { describeError, errorRows, errnoOf } from "../shared/errors.ts";
import { closeCode } from "../shared/wire/close-code.ts";
import { isNoTls, lookAt } from "./certificate-look.ts";
import { describeOffset, describeSpan, isNoticeable } from "./clock-offset.ts";
import type { DialEnd, DialStage, DialTarget } from "./dial.ts";

/** Stable words for programs: `--json` of register shows them. */
export type FindingKind =
  | "refused"
  | "timed-out"
  | "name-unknown"
  | "no-route"
  | "cut"
  | "no-tls"
  | "intercepted"
  | "other-cluster"
  | "other-node"
  | "untrusted"
  | "clock"
  | "node-expired"
  | "not-a-node"
  | "not-now"
  | "protocol"
  | "agent-refused"
  | "agent-expired"
  | "unknown";

export interface Finding {
  readonly kind: FindingKind;
  readonly reason: string;
  readonly mend: string;
}

/** How a probe ended without a greeting, and how far it had come. */
export interface ProbeFailure {
  readonly end: DialEnd | { readonly kind: "timed-out"; readonly afterMs: number };
  readonly stage: DialStage;
}

export interface DiagnosisDeps {
  readonly clock: Clock;
  /** Of the server that enrolled this agent, when its answers carried the time. */
  readonly serverAheadMs?: number | undefined;
}

const lookMs = 5_000;
const openMend = (address: string): string =>
  `Open outbound TCP from this machine to ${address}, or let the node advertise an address this machine reaches (--advertise).`;
const interceptionMend = (address: string): string =>
  `Exempt ${address} from TLS inspection: agents accept only their own cluster's certificates.`;

export function diagnose(failure: ProbeFailure, target: DialTarget, deps: DiagnosisDeps): Promise<Finding> | Finding {
  const { end, stage } = failure;
  switch (end.kind) {
    case "timed-out":
      return timedOut(end.afterMs, stage, target.address);
    case "rejected":
      return rejected(end);
    case "closed":
      return closed(end);
    case "failed":
      return failed(end.error, { stage, target, deps });
  }
}

function timedOut(afterMs: number, stage: DialStage, address: string): Finding {
  const within = `within ${describeMs(afterMs)}`;
  switch (stage) {
    case "dialled":
      return { kind: "timed-out", reason: `timed out: TCP was not answered ${within}`, mend: openMend(address) };
    case "connected":
      return {
        kind: "timed-out",
        reason: `timed out: TCP connected, but TLS was not answered ${within}`,
        mend: `Check that ${address} leads to a node's agent listener, and that no firewall or proxy holds TLS back.`,
      };
    case "secured":
      return {
        kind: "timed-out",
        reason: `timed out: the node proved itself but did not greet ${within}`,
        mend: "Look at the node's log and load; register again when it has recovered.",
      };
  }
}

function rejected(end: Extract<DialEnd, { kind: "rejected" }>): Finding {
  const reason = `the node answered ${end.status} ${end.detail}`.trim();
  switch (end.status) {
    case 503:
    case 429: {
      const wait = end.retryAfterMs > 0 ? ` (try again after ${describeSpan(end.retryAfterMs)})` : "";
      const mend =
        "A running agent tries again by itself. If it lasts: `holdfast nodes list`, and `holdfast server resume NODE` for one that drains.";
      return { kind: "not-now", reason: reason + wait, mend };
    }
    case 426:
      return { kind: "protocol", reason, mend: errorRows["protocol.unsupported"].mend };
    case 403:
      return { kind: "agent-refused", reason, mend: reEnrolMend };
    default:
      return {
        kind: "not-a-node",
        reason,
        mend: "Check the address and the node's version: no agent listener answers so.",
      };
  }
}

const reEnrolMend =
  "Look at `holdfast agents show NAME`; to trust it again: `holdfast tokens create --replace NAME`, then register with that token.";

function closed(end: Extract<DialEnd, { kind: "closed" }>): Finding {
  const reason = `closed before the greeting: ${end.code} ${end.reason}`.trim();
  switch (end.code) {
    case closeCode.unsupported:
      return { kind: "protocol", reason, mend: errorRows["protocol.unsupported"].mend };
    case closeCode.refused:
    case closeCode.quarantined:
    case closeCode.superseded:
      return { kind: "agent-refused", reason, mend: reEnrolMend };
    case closeCode.expired:
      return { kind: "agent-expired", reason, mend: reEnrolMend };
    case closeCode.unavailable:
    case closeCode.goingAway:
      return { kind: "not-now", reason, mend: "A running agent tries again by itself; look at the node's `/readyz`." };
    default:
      return {
        kind: "cut",
        reason,
        mend: "Look at the node's log, and at proxies on the way that do not pass WebSockets.",
      };
  }
}

interface Failed {
  readonly stage: DialStage;
  readonly target: DialTarget;
  readonly deps: DiagnosisDeps;
}

async function failed(error: AppError, { stage, target, deps }: Failed): Promise<Finding> {
  const { address, identity } = target;
  const host = address.slice(0, address.lastIndexOf(":"));
  const code = errnoOf(error.cause);
  switch (code) {
    case "ECONNREFUSED":
      return {
        kind: "refused",
        reason: "connection refused: nothing listens there",
        mend: `Check that the node runs and listens on ${address}, and that no firewall rejects the connection.`,
      };
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EAI_NODATA":
      return {
        kind: "name-unknown",
        reason: `${host}: the name was not found (${code})`,
        mend: "Mend DNS or /etc/hosts on this machine, or let the node advertise an address this machine can resolve (--advertise).",
      };
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return { kind: "no-route", reason: `no route to ${host} (${code})`, mend: openMend(address) };
    case "ETIMEDOUT":
      return { kind: "timed-out", reason: "timed out: TCP was not answered", mend: openMend(address) };
    case undefined:
      break;
    default:
      if (isNoTls(error.cause) || (error.code === "tls.refused" && isAboutTheirCertificate(code)))
        return await looked({ target, deps });
  }
  const own = new X509Certificate(identity.cert);
  if (own.validToDate.getTime() < deps.clock.wallMs()) {
    const since = describeSpan(deps.clock.wallMs() - own.validToDate.getTime());
    return { kind: "agent-expired", reason: `this agent's certificate expired ${since} ago`, mend: reEnrolMend };
  }
  if (stage === "secured") {
    const reason = `the node ended the connection after TLS (${describeError(error.cause ?? error)})`;
    return { kind: "cut", reason, mend: `It may not know this agent's certificate: ${reEnrolMend}` };
  }
  const reason = `the connection was cut before TLS was done (${describeError(error.cause ?? error)})`;
  return {
    kind: "cut",
    reason,
    mend: `Look for a firewall or proxy on the way to ${address} that ends TLS it does not know.`,
  };
}

/** Codes with which our own side refused what was shown, or the TLS version the far side can do. */
function isAboutTheirCertificate(code: string): boolean {
  return !code.startsWith("ERR_SSL_") || code.includes("PROTOCOL") || code.includes("HANDSHAKE_FAILURE");
}

async function looked({ target, deps }: Omit<Failed, "stage">): Promise<Finding> {
  const { address, identity } = target;
  const look = await lookAt({ address, servername: identity.servername, withinMs: lookMs }, deps);
  switch (look.kind) {
    case "certificate":
      return ofCertificate(look.leaf, { target, deps });
    case "plain": {
      const isHttp = look.firstLine.startsWith("HTTP/");
      const said = look.firstLine === "" ? "" : `: it says "${look.firstLine.slice(0, 80)}"`;
      return {
        kind: "no-tls",
        reason: isHttp ? `plain HTTP on this port, no TLS${said}` : `no TLS on this port${said}`,
        mend: `Let ${address} lead to a node's agent listener, and pass TCP through unchanged: neither its API port nor a proxy that ends TLS will do.`,
      };
    }
    case "nothing":
      return {
        kind: "untrusted",
        reason: `the far side's TLS was refused and it showed nothing at a second look (${look.why})`,
        mend: interceptionMend(address),
      };
  }
}

/** The far side's leaf was refused by TLS: why, and whose is it? */
export function ofCertificate(leaf: X509Certificate, { target, deps }: Omit<Failed, "stage">): Finding {
  const { address, identity } = target;
  const subject = subjectOf(leaf);
  const isOurs = identity.nodesCas.some((pem) => wasIssuedBy(leaf, new X509Certificate(pem)));
  if (isOurs && !isValidNow(leaf, deps)) return ofTime(leaf, deps);
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
function wasIssuedBy(leaf: X509Certificate, authority: X509Certificate): boolean {
  return leaf.checkIssued(authority) && leaf.verify(authority.publicKey);
}

function isValidNow(leaf: X509Certificate, { clock }: DiagnosisDeps): boolean {
  return isValidAtMs(leaf, clock.wallMs());
}

function isValidAtMs(leaf: X509Certificate, wallMs: number): boolean {
  return leaf.validFromDate.getTime() <= wallMs && wallMs <= leaf.validToDate.getTime();
}

/** Our cluster's certificate outside its validity: is this machine's clock wrong, or is the certificate really over? */
function ofTime(leaf: X509Certificate, { clock, serverAheadMs }: DiagnosisDeps): Finding {
  const nowMs = clock.wallMs();
  const isEarly = nowMs < leaf.validFromDate.getTime();
  const valid = `the node's certificate is valid ${iso(leaf.validFromDate)} to ${iso(leaf.validToDate)}`;
  const says = `this machine's clock says ${iso(new Date(nowMs))}`;
  const offMs = isEarly ? leaf.validFromDate.getTime() - nowMs : nowMs - leaf.validToDate.getTime();
  const setClock = "Set this machine's clock (NTP), then register again.";
  if (isNoticeable(serverAheadMs) && isValidAtMs(leaf, nowMs + serverAheadMs)) {
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

function describeMs(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : describeSpan(ms);
}
