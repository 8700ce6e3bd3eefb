// Says in one word, one sentence and one mend why an address did not greet. Leaves dialling to probe.ts.
// The words about certificates are certificate-finding.ts's. Invariant: it never throws, and every end has a finding.
import { X509Certificate } from "node:crypto";
import type { AppError } from "../shared/errors.ts";
import { describeError, errorRows, errnoOf } from "../shared/errors.ts";
import { closeCode } from "../shared/wire/close-code.ts";
import { findingOf, interceptionMend } from "./certificate-finding.ts";
import { isNoTls, lookAt } from "./certificate-look.ts";
import { ProxyError } from "./proxy-tunnel.ts";
import { describeSpan } from "./clock-offset.ts";
import type { DialEnd, DialStage, DialTarget } from "./dial.ts";
import type { DiagnosisDeps, Finding } from "./finding.ts";

/** How a probe ended without a greeting, and how far it had come. */
export interface ProbeFailure {
  readonly end: DialEnd | { readonly kind: "timed-out"; readonly afterMs: number };
  readonly stage: DialStage;
}

const lookMs = 5_000;
const openMend = (address: string): string =>
  `Open outbound TCP from this machine to ${address}, or let the node advertise an address this machine reaches (--advertise).`;
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
        mend: "Look at the node's log and load; run this again when it has recovered.",
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
  // The proxy's own word: nothing behind it was seen.
  if (error instanceof ProxyError) return { kind: "proxy", reason: error.message, mend: error.mend ?? "" };
  const code = errnoOf(error.cause);
  switch (code) {
    case "ECONNREFUSED":
      return {
        kind: "refused",
        reason: "connection refused (ECONNREFUSED): nothing listens there",
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
    default:
      break;
  }
  if (stage !== "secured" && isAboutTheirTls(error.cause)) {
    const finding = await looked({ target, deps });
    if (finding !== undefined) return finding;
  }
  const own = new X509Certificate(identity.cert);
  if (own.validToDate.getTime() < deps.clock.wallMs()) {
    const since = describeSpan(deps.clock.wallMs() - own.validToDate.getTime());
    return { kind: "agent-expired", reason: `this agent's certificate expired ${since} ago`, mend: reEnrolMend };
  }
  if (stage === "secured") {
    const reason = `the node ended the connection after TLS (${wordsOf(error)})`;
    return { kind: "cut", reason, mend: `It may not know this agent's certificate: ${reEnrolMend}` };
  }
  const reason = `the connection was cut before TLS was done (${wordsOf(error)})`;
  return {
    kind: "cut",
    reason,
    mend: `Look for a firewall or proxy on the way to ${address} that ends TLS it does not know.`,
  };
}

/** What our own side refused to see, or a far side that does not speak TLS as we do: a second look can say more. */
function isAboutTheirTls(cause: unknown): boolean {
  const code = errnoOf(cause) ?? "";
  if (code.startsWith("ERR_SSL_"))
    return isNoTls(cause) || code.includes("PROTOCOL") || code.includes("HANDSHAKE_FAILURE");
  return (
    code === "EPROTO" ||
    code === "INVALID_PURPOSE" ||
    code.includes("CERT") ||
    code.includes("SELF_SIGNED") ||
    code.startsWith("UNABLE_TO")
  );
}

/** One line: OpenSSL's errors name source files and end in line breaks. */
function wordsOf(error: AppError): string {
  const text = describeError(error.cause ?? error);
  return /:SSL routines:[^:]*:([^:\n]+)/.exec(text)?.[1] ?? text.replaceAll(/\s+/g, " ").trim().slice(0, 200);
}

/** Undefined when what stands there is the node itself, as it should be. */
async function looked({ target, deps }: Omit<Failed, "stage">): Promise<Finding | undefined> {
  const { address, identity } = target;
  const look = await lookAt({ address, servername: identity.servername, withinMs: lookMs }, deps);
  switch (look.kind) {
    case "certificate": {
      const finding = findingOf(look.leaf, { target, deps });
      return finding === undefined ? undefined : { ...finding, leaf: look.leaf };
    }
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

function describeMs(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : describeSpan(ms);
}
