// One look at one address as the running agent would dial it: a probe's greeting, else why there was none. For register and
// doctor, which make rows of it. Invariant: it never throws, and changes nothing on the node.
import type { X509Certificate } from "node:crypto";
import { anyNodeName, nodeName } from "../certs/profile.ts";
import type { Clock } from "../shared/clock.ts";
import type { NodeId } from "../shared/ids.ts";
import type { ListedNode, NodeList } from "../shared/wire/nodes.ts";
import type { Welcome } from "../shared/wire/welcome.ts";
import { diagnose } from "./diagnosis.ts";
import type { Dial, DialStage, DialTarget } from "./dial.ts";
import type { DiagnosisDeps, Finding } from "./finding.ts";
import type { Identity } from "./identity.ts";
import { newerList } from "./node-addresses.ts";
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

/** By {@link keyOf}. */
export type NodeLooks = Map<string, NodeLook>;

export const anyNode = (address: string): NodeAddress => ({ address, node: undefined });
export const keyOf = ({ address, node }: NodeAddress): string => `${node ?? ""} ${address}`;
export const listedAddresses = (nodes: readonly ListedNode[]): NodeAddress[] =>
  nodes.flatMap(({ id, addresses }) => addresses.map((address) => ({ address, node: id })));
export const isReached = (look: NodeLook): look is Extract<NodeLook, { kind: "reached" }> => look.kind === "reached";

const dialsAtOnce = 64;

/** Adds to `looks` what is not in there yet; resolves with the newest list that `list` or any node told. */
export async function lookAtEach(
  deps: NodeLookDeps,
  addresses: readonly NodeAddress[],
  given: Omit<NodeLookOptions, keyof NodeAddress> & { readonly looks: NodeLooks; readonly list: NodeList },
): Promise<NodeList> {
  const { identity, dialMs, looks } = given;
  const left = addresses.filter((one) => !looks.has(keyOf(one)));
  let { list } = given;
  const work = async (): Promise<void> => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) {
      const look = await lookAtNode(deps, { ...one, identity, dialMs });
      looks.set(keyOf(one), look);
      if (look.kind === "reached") list = newerList(list, look.welcome.nodes);
    }
  };
  await Promise.all(Array.from({ length: Math.min(dialsAtOnce, left.length) }, work));
  return list;
}

async function lookAtNode(deps: NodeLookDeps, options: NodeLookOptions): Promise<NodeLook> {
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
