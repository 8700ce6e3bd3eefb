// One look at one address as the running agent would dial it: a probe's greeting, else why there was none. For register and
// doctor, which make rows of it. Invariant: it never throws, and changes nothing on the node.
import type { X509Certificate } from "node:crypto";
import { anyNodeName, nodeName } from "../certs/profile.ts";
import type { Clock } from "../shared/clock.ts";
import type { NodeId } from "../shared/ids.ts";
import type { Welcome } from "../shared/wire/welcome.ts";
import { diagnose } from "./diagnosis.ts";
import type { Dial, DialStage, DialTarget } from "./dial.ts";
import type { DiagnosisDeps, Finding } from "./finding.ts";
import type { Identity } from "./identity.ts";
import { probe } from "./probe.ts";

export interface NodeAddress {
  readonly address: string;
  /** Which node is to answer there; undefined when any may. */
  readonly node: NodeId | undefined;
}

export interface NodeLookOptions extends NodeAddress {
  readonly identity: Identity;
  readonly dialMs: number;
}

export interface NodeLookDeps extends DiagnosisDeps {
  readonly dial: Dial;
  readonly clock: Clock;
}

export type NodeLook =
  | {
      readonly kind: "reached";
      readonly welcome: Welcome;
      /** TCP, TLS and greeting together, to a tenth. */
      readonly roundTripMs: number;
      readonly leaf: X509Certificate | undefined;
      readonly aheadMs: number | undefined;
    }
  | {
      readonly kind: "failed";
      readonly finding: Finding;
      /** How far it came. */
      readonly stage: DialStage;
      readonly leaf: X509Certificate | undefined;
    };

export async function lookAtNode(deps: NodeLookDeps, options: NodeLookOptions): Promise<NodeLook> {
  const { address, node, identity, dialMs } = options;
  const { cluster, key, certificate, nodesCa } = identity;
  const servername = node === undefined ? anyNodeName(cluster) : nodeName(cluster, node);
  const target: DialTarget = { address, identity: { key, cert: certificate, nodesCas: nodesCa, servername } };
  const result = await probe(target, deps, dialMs);
  if (result.ok) {
    const { welcome, peer: leaf, aheadMs } = result;
    return { kind: "reached", welcome, roundTripMs: Math.round(result.roundTripMs * 10) / 10, leaf, aheadMs };
  }
  const finding = await diagnose(result.failure, target, deps);
  return { kind: "failed", finding, stage: result.failure.stage, leaf: result.peer ?? finding.leaf };
}
