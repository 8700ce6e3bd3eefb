// Reads who a certificate speaks for from its SAN. Trust is decided elsewhere (TLS, issuerOf, the positive list).
// Invariant: a certificate with more or other names than its kind allows speaks for nobody.
import type { X509Certificate } from "node:crypto";
import { agentIdSchema, clusterIdSchema, nodeIdSchema } from "../shared/ids.ts";
import type { AgentId, ClusterId, NodeId } from "../shared/ids.ts";
import { anyNodeName, nodeName, purposeOf } from "./profile.ts";

export type Subject =
  | { readonly kind: "agent"; readonly cluster: ClusterId; readonly id: AgentId }
  | { readonly kind: "node"; readonly cluster: ClusterId; readonly id: NodeId; readonly dnsNames: readonly string[] };

const uriPattern = /^URI:holdfast:\/\/([0-9a-f-]{36})\/(agent|node)\/([0-9a-f-]{36})$/;

/** The agent or node that the SAN and the purpose name together; `undefined` when they do not fit. */
export function subjectOf(certificate: X509Certificate): Subject | undefined {
  // OpenSSL quotes names with odd characters, so a comma inside a name cannot fake a second one: it fails the pattern.
  const [first = "", ...others] = (certificate.subjectAltName ?? "").split(", ");
  const [, clusterText, kind, idText] = uriPattern.exec(first) ?? [];
  const cluster = clusterIdSchema.safeParse(clusterText).data;
  const purposes = certificate.keyUsage?.join(" ");
  if (cluster === undefined) return undefined;
  if (kind === "agent") {
    const id = agentIdSchema.safeParse(idText).data;
    if (id === undefined || others.length > 0 || purposes !== purposeOf.agents) return undefined;
    return { kind, cluster, id };
  }
  const id = nodeIdSchema.safeParse(idText).data;
  if (id === undefined || purposes !== purposeOf.nodes || !others.every((name) => name.startsWith("DNS:")))
    return undefined;
  const dnsNames = others.map((name) => name.slice("DNS:".length));
  if (!dnsNames.includes(anyNodeName(cluster)) || !dnsNames.includes(nodeName(cluster, id))) return undefined;
  return { kind: "node", cluster, id, dnsNames };
}
