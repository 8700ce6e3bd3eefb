// The form of a diagnosis: why an address did not greet, in a word for programs and in words for people.
// Invariant: every failure has a mend; the words for programs never change their meaning.
import type { X509Certificate } from "node:crypto";
import type { Clock } from "../shared/clock.ts";
import type { ProxyRules } from "./proxy.ts";

/** Stable words for programs: `--json` of register shows them. */
export type FindingKind =
  | "refused"
  | "timed-out"
  | "proxy"
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
  /** The certificate that stood there, when TLS was refused for it. */
  readonly leaf?: X509Certificate;
}

export interface DiagnosisDeps {
  readonly clock: Clock;
  /** Of the server that enrolled this agent, when its answers carried the time. */
  readonly serverAheadMs?: number | undefined;
  /** As the dials themselves go. */
  readonly proxies?: ProxyRules;
}
