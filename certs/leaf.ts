// Issues the leaves of agents and nodes from a key they have proved to hold. Who may have one is decided elsewhere.
// Invariant: no leaf leaves here unchecked, without a purpose, or valid for longer than its CA.
import { X509Certificate, createPrivateKey, createPublicKey } from "node:crypto";
import type { Clock } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import type { AgentId, ClusterId, NodeId } from "../shared/ids.ts";
import type { Random } from "../shared/random.ts";
import { sha256Hex } from "../shared/thumbprint.ts";
import type { Sha256Hex } from "../shared/thumbprint.ts";
import type { Authority } from "./authority.ts";
import { buildCertificate, toPem } from "./builder.ts";
import type { AltName } from "./builder.ts";
import {
  agentUri,
  anyNodeName,
  authorityName,
  backdateMs,
  dnsNamePattern,
  nodeName,
  nodeUri,
  purposeOf,
  serialBytes,
} from "./profile.ts";
import type { AuthorityKind } from "./profile.ts";
import { keyIdOf, readPublicKey } from "./public-key.ts";
import { selfCheck } from "./self-check.ts";

export interface Leaf {
  readonly certificatePem: string;
  /** SHA-256 of the DER, lower-case hex: the key of the positive list. */
  readonly thumbprint: Sha256Hex;
  /** 32 hex digits. */
  readonly serial: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface LeafDeps {
  readonly clock: Pick<Clock, "wallMs">;
  readonly random: Pick<Random, "bytes">;
}

interface LeafOptions {
  readonly authority: Authority;
  readonly cluster: ClusterId;
  /** SPKI in DER, whose possession has been proved. */
  readonly publicKeySpki: Uint8Array;
  /** From the moment of issue, in milliseconds; cut to whole seconds, at least one. */
  readonly lifetimeMs: number;
}

/** Throws AppError `enrolment.proof-invalid` for a key that is not P-256. */
export function issueAgentLeaf(options: LeafOptions & { readonly agentId: AgentId }, deps: LeafDeps): Leaf {
  return issue(options, "agents", options.agentId, [{ uri: agentUri(options.cluster, options.agentId) }], deps);
}

/** `publicNames` are further DNS names under which a node may be dialled; at most 16, in lower case. */
export function issueNodeLeaf(
  options: LeafOptions & { readonly nodeId: NodeId; readonly publicNames?: readonly string[] },
  deps: LeafDeps,
): Leaf {
  const publicNames = options.publicNames ?? [];
  const wrong = publicNames.find((name) => !dnsNamePattern.test(name));
  if (wrong !== undefined || publicNames.length > 16) {
    throw new AppError(
      "config.invalid",
      `public names: expected at most 16 DNS names in lower case, saw ${wrong ?? publicNames.length}`,
    );
  }
  const dnsNames = [anyNodeName(options.cluster), nodeName(options.cluster, options.nodeId), ...publicNames];
  const altNames: AltName[] = [{ uri: nodeUri(options.cluster, options.nodeId) }, ...dnsNames.map((dns) => ({ dns }))];
  return issue(options, "nodes", options.nodeId, altNames, deps);
}

function issue(
  options: LeafOptions,
  kind: AuthorityKind,
  commonName: string,
  altNames: readonly AltName[],
  deps: LeafDeps,
): Leaf {
  const { authority, cluster } = options;
  if (authority.kind !== kind) throw new AppError("internal", `expected the ${kind} CA, saw the ${authority.kind} CA`);
  const issuer = new X509Certificate(authority.certificatePem);
  const issuerKey = createPublicKey(createPrivateKey(authority.privateKeyPem));
  if (!issuer.publicKey.equals(issuerKey))
    throw new AppError("certificate.invalid", `key and certificate of the ${kind} CA differ`);
  const nowMs = Math.floor(deps.clock.wallMs() / 1_000) * 1_000;
  const lifetimeMs = Math.max(1_000, Math.floor(options.lifetimeMs / 1_000) * 1_000);
  const serial = deps.random.bytes(serialBytes);
  const issuerKeyId = keyIdOf(issuerKey);
  const plan = {
    serial,
    issuer: authorityName(kind, cluster, issuerKeyId),
    subject: { commonName },
    notBeforeMs: nowMs - backdateMs,
    notAfterMs: Math.min(nowMs + lifetimeMs, issuer.validToDate.getTime()),
    publicKey: readPublicKey(options.publicKeySpki),
    issuerKeyId,
    role: "leaf",
    purpose: purposeOf[kind],
    altNames,
  } as const;
  const der = buildCertificate(plan, authority.privateKeyPem);
  const certificate = selfCheck(der, plan, issuerKey);
  if (!certificate.checkIssued(issuer)) {
    throw new AppError("certificate.invalid", `the ${kind} CA is not of cluster ${cluster}: it is ${issuer.subject}`);
  }
  return {
    certificatePem: toPem(der),
    thumbprint: sha256Hex(der),
    serial: Buffer.from(serial).toString("hex"),
    notBeforeMs: plan.notBeforeMs,
    notAfterMs: plan.notAfterMs,
  };
}
