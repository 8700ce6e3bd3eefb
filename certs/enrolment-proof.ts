// Both sides of enrolment without HTTP: builds and verifies greeting, request and answer (DESIGN section 7).
// Leaves tokens, nonces and rows to the server. Invariant: the agent uses nothing it was told before the pin in its
// token, the node's chain and the node's signature have been verified, and the token's secret is in no message.
import type { X509Certificate } from "node:crypto";
import type { Clock } from "../shared/clock.ts";
import {
  answerTranscript,
  greetingTranscript,
  isRequestMacValid,
  proofTranscript,
  requestMac,
} from "../shared/enrolment.ts";
import type { ClusterPin, EnrolmentAnswer, EnrolmentGreeting, EnrolmentRequest } from "../shared/enrolment.ts";
import type { EnrolmentToken } from "../shared/enrolment-token.ts";
import { tokenSecretDigest } from "../shared/enrolment-token.ts";
import { AppError } from "../shared/errors.ts";
import type { NodeId } from "../shared/ids.ts";
import type { Labels } from "../shared/task.ts";
import { sha256Hex } from "../shared/thumbprint.ts";
import { isValidAt, issuerOf, pinOf, readTrustAnchor } from "./trust.ts";
import { readBundle } from "./bundle.ts";
import { readPublicKey, signTranscript, verifyTranscript } from "./public-key.ts";
import { subjectOf } from "./subject.ts";

type WallClock = { readonly clock: Pick<Clock, "wallMs"> };

/** What a node signs with, and shows for it. */
export interface NodeIdentity {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** What the agent knows of the cluster once the greeting has been verified. */
export interface GreetedCluster extends ClusterPin {
  readonly nodeId: NodeId;
  readonly nonce: string;
}

export function buildGreeting(
  options: { readonly nonce: string; readonly nodesCa: string } & Pick<ClusterPin, "cluster">,
  node: NodeIdentity,
): EnrolmentGreeting {
  const { cluster, nonce, nodesCa } = options;
  const { nodesCaPin } = issuingPin(nodesCa, node.certificatePem);
  const signature = signTranscript(node.privateKeyPem, greetingTranscript({ nonce }, { cluster, nodesCaPin })).toString(
    "base64",
  );
  return { cluster, nodesCa, chain: node.certificatePem, nonce, signature };
}

/** Agent side. Throws AppError `enrolment.untrusted`; until it returns, the server is a stranger. */
export function verifyGreeting(greeting: EnrolmentGreeting, token: EnrolmentToken, deps: WallClock): GreetedCluster {
  const pin = { cluster: greeting.cluster, nodesCaPin: token.nodesCaPin };
  const node = verifyNode({ ...greeting, pin }, deps);
  const isSigned = verifyTranscript(
    node.leaf.publicKey,
    greetingTranscript(greeting, pin),
    Buffer.from(greeting.signature, "base64"),
  );
  if (!isSigned) throw untrusted("the greeting's signature is not the node's");
  return { ...pin, nodeId: node.id, nonce: greeting.nonce };
}

/** Agent side: proves the key and the token to the cluster that was greeted. The secret itself is in no field. */
export function buildRequest(
  options: {
    readonly token: EnrolmentToken;
    readonly greeted: GreetedCluster;
    readonly name: string;
    readonly labels: Labels;
    readonly publicKeySpki: Uint8Array;
  },
  agent: Pick<NodeIdentity, "privateKeyPem">,
): EnrolmentRequest {
  const { token, greeted } = options;
  const unproven = {
    tokenId: token.tokenId,
    name: options.name,
    labels: options.labels,
    spki: Buffer.from(options.publicKeySpki).toString("base64"),
    nonce: greeted.nonce,
  };
  const proven = {
    ...unproven,
    proof: signTranscript(agent.privateKeyPem, proofTranscript(unproven, greeted)).toString("base64"),
  };
  return { ...proven, mac: requestMac(proven, greeted, tokenSecretDigest(token.secret)).toString("base64") };
}

/**
 * Node side: MAC first (cheap), then key and proof; gives the SPKI to certify. The nonce and the token's state are
 * checked by the caller. Throws AppError `enrolment.proof-invalid`.
 */
export function verifyRequest(
  request: EnrolmentRequest,
  expected: ClusterPin & { readonly secretDigest: Uint8Array },
): { readonly publicKeySpki: Buffer } {
  if (!isRequestMacValid(request, expected, expected.secretDigest)) {
    throw new AppError(
      "enrolment.proof-invalid",
      "the request was not made with this token's secret, or was changed on its way",
    );
  }
  const publicKeySpki = Buffer.from(request.spki, "base64");
  const key = readPublicKey(publicKeySpki);
  if (!verifyTranscript(key, proofTranscript(request, expected), Buffer.from(request.proof, "base64"))) {
    throw new AppError("enrolment.proof-invalid", "the request is not signed by the key it wants certified");
  }
  return { publicKeySpki };
}

export function buildAnswer(
  options: Omit<EnrolmentAnswer, "chain" | "signature">,
  request: Pick<EnrolmentRequest, "nonce" | "mac">,
  node: NodeIdentity,
): EnrolmentAnswer {
  const unsigned = { ...options, chain: node.certificatePem };
  return {
    ...unsigned,
    signature: signTranscript(node.privateKeyPem, answerTranscript(unsigned, request)).toString("base64"),
  };
}

/** Agent side. Throws AppError `enrolment.untrusted` unless the pinned cluster answered this very request. */
export function verifyAnswer(
  answer: EnrolmentAnswer,
  expected: { readonly greeted: ClusterPin; readonly request: EnrolmentRequest },
  deps: WallClock,
): EnrolmentAnswer {
  const { greeted, request } = expected;
  if (answer.cluster !== greeted.cluster) throw untrusted(`expected cluster ${greeted.cluster}, saw ${answer.cluster}`);
  const node = verifyNode({ ...answer, pin: greeted }, deps);
  const isSigned = verifyTranscript(
    node.leaf.publicKey,
    answerTranscript(answer, request),
    Buffer.from(answer.signature, "base64"),
  );
  if (!isSigned) throw untrusted("the answer's signature is not the node's, or it answers another request");
  // From here on the content is the cluster's own; the checks below find its defects, not an attacker.
  const [leaf, ...others] = readBundle(answer.certificate);
  const anchors = readBundle(answer.agentsCa).map((ca) =>
    readTrustAnchor({ kind: "agents", certificatePem: ca.toString() }),
  );
  const subject = leaf === undefined ? undefined : subjectOf(leaf);
  if (
    leaf === undefined ||
    others.length > 0 ||
    subject?.kind !== "agent" ||
    subject.id !== answer.agentId ||
    subject.cluster !== answer.cluster ||
    !leaf.publicKey.equals(readPublicKey(Buffer.from(request.spki, "base64"))) ||
    issuerOf(leaf, anchors, deps) === undefined
  ) {
    throw new AppError("certificate.invalid", `the certificate in the answer does not fit agent ${answer.agentId}`);
  }
  for (const ca of readBundle(answer.nodesCa)) readTrustAnchor({ kind: "nodes", certificatePem: ca.toString() });
  return answer;
}

const untrusted = (why: string, cause?: unknown): AppError =>
  new AppError("enrolment.untrusted", `enrolment: ${why}`, { cause });

function verifyNode(
  shown: { readonly nodesCa: string; readonly chain: string; readonly pin: ClusterPin },
  deps: WallClock,
): { readonly leaf: X509Certificate; readonly id: NodeId } {
  const nowMs = deps.clock.wallMs();
  let certificates: readonly X509Certificate[];
  let leaf: X509Certificate | undefined;
  try {
    certificates = readBundle(shown.nodesCa);
    [leaf] = readBundle(shown.chain);
  } catch (cause) {
    throw untrusted("the server's certificates are unreadable", cause);
  }
  const ca = certificates.find((certificate) => sha256Hex(certificate.raw) === shown.pin.nodesCaPin);
  if (ca === undefined || leaf === undefined) {
    const seen = certificates.map((certificate) => sha256Hex(certificate.raw)).join(", ");
    throw untrusted(`the token pins the nodes CA ${shown.pin.nodesCaPin}, the server shows ${seen}`);
  }
  const anchor = readTrustAnchor({ kind: "nodes", certificatePem: ca.toString() });
  if (issuerOf(leaf, [anchor], deps) === undefined) {
    const when = isValidAt(leaf, nowMs)
      ? "was not issued by the pinned nodes CA"
      : `is valid ${leaf.validFromDate.toISOString()} to ${leaf.validToDate.toISOString()}, and this machine's clock says ${new Date(nowMs).toISOString()}`;
    throw untrusted(`the node's certificate ${when}`);
  }
  const subject = subjectOf(leaf);
  if (subject?.kind !== "node" || subject.cluster !== shown.pin.cluster) {
    throw untrusted(`expected a node of cluster ${shown.pin.cluster}, saw ${leaf.subjectAltName ?? "no name"}`);
  }
  return { leaf, id: subject.id };
}

/** The pin of that CA of a bundle which issued the node's leaf: what tokens of this node's time carry. */
export function issuingPin(nodesCa: string, leafPem: string): Pick<ClusterPin, "nodesCaPin"> {
  const [leaf] = readBundle(leafPem);
  const anchors = readBundle(nodesCa).map((ca) => readTrustAnchor({ kind: "nodes", certificatePem: ca.toString() }));
  const anchor = anchors.find(
    ({ certificate }) => leaf?.checkIssued(certificate) === true && leaf.verify(certificate.publicKey),
  );
  if (anchor === undefined)
    throw new AppError("certificate.invalid", "the node's leaf was issued by none of the nodes CAs given");
  return { nodesCaPin: pinOf(anchor) };
}
