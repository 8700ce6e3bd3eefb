// What the cluster's certificates contain (SECURITY 4.3): object ids, names, SAN forms and lifetimes, as plain data.
// Assembling bytes is builder.ts's work. Invariant: an agent's and a node's certificate never share a purpose.
import type { AgentId, ClusterId, NodeId } from "../shared/ids.ts";

export type AuthorityKind = "agents" | "nodes";

/** Object identifiers of X.509 (RFC 5280) and ECDSA on P-256 (RFC 5480, RFC 5758). */
export const oids = {
  commonName: "2.5.4.3",
  serialNumber: "2.5.4.5",
  ecPublicKey: "1.2.840.10045.2.1",
  prime256v1: "1.2.840.10045.3.1.7",
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
} as const;

/** The one purpose of every leaf under a CA; the CA itself carries it too, so OpenSSL refuses it for the other one. */
export const purposeOf = { agents: oids.clientAuth, nodes: oids.serverAuth } as const satisfies Record<
  AuthorityKind,
  string
>;

/** Certificates start this long before their issue, so that a clock up to an hour slow still accepts them. */
export const backdateMs = 3_600_000;
/** Ten years of 365.25 days. */
export const authorityLifetimeMs = 315_576_000_000;
/** 30 days, for agents and nodes alike; renewed at half of it. */
export const leafLifetimeMs = 2_592_000_000;
export const serialBytes = 16;
/** A leaf beyond this is a defect: SECURITY 4.3. */
export const leafBytesAtMost = 4_096;

/** A further public DNS name of a node; it goes into the SAN as it is. */
export const dnsNamePattern =
  /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;

export interface Name {
  readonly commonName: string;
  readonly serialNumber?: string;
}

/** A CA's name carries its key id: during rotation two CAs of one kind must not share a name. */
export function authorityName(kind: AuthorityKind, cluster: ClusterId, keyId: Uint8Array): Name {
  return { commonName: `Holdfast ${kind} CA ${cluster}`, serialNumber: Buffer.from(keyId).toString("hex") };
}

export function agentUri(cluster: ClusterId, agentId: AgentId): string {
  return `holdfast://${cluster}/agent/${agentId}`;
}

export function nodeUri(cluster: ClusterId, nodeId: NodeId): string {
  return `holdfast://${cluster}/node/${nodeId}`;
}

/** The servername for seed addresses, where any node may answer. */
export function anyNodeName(cluster: ClusterId): string {
  return `node.${cluster}.internal`;
}

/** The servername for listed addresses: proves which node answered, and a router can choose by it. */
export function nodeName(cluster: ClusterId, nodeId: NodeId): string {
  return `${nodeId}.node.${cluster}.internal`;
}
