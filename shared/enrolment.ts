// The contracts of `GET` and `POST /api/v1/enrolment` and the bytes that are signed and MACed in them.
// Signing, verifying and certificates are certs/enrolment-proof.ts's work. Invariant: every field that decides
// anything is part of a transcript, and no transcript of one purpose can stand for another.
import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { agentIdSchema, clusterIdSchema, isIdForm, tokenIdSchema } from "./ids.ts";
import type { ClusterId } from "./ids.ts";
import { labelsSchema, nameSchema } from "./task.ts";
import type { Sha256Hex } from "./thumbprint.ts";
import { transcriptOf } from "./transcript.ts";
import { listedNodeSchema } from "./wire/nodes.ts";

/** A few certificates at most; one takes about 1 KiB. */
const pemSchema = z.string().min(1).max(16_384);
const base64 = (bytesAtMost: number): z.ZodBase64 =>
  z
    .base64()
    .max(Math.ceil(bytesAtMost / 3) * 4)
    .min(4);
/** 16 random bytes, 8 of time, 32 of HMAC, in base64url; opaque to everyone but the nodes. */
const nonceSchema = z.base64url().min(22).max(128);
/** ECDSA P-256 in DER takes at most 72 bytes. */
const signatureSchema = base64(80);

export const enrolmentGreetingSchema = z.object({
  cluster: clusterIdSchema,
  /** PEM; during a rotation it may hold two, and the token pins the one that issued the chain. */
  nodesCa: pemSchema,
  /** PEM of the answering node's leaf. */
  chain: pemSchema,
  nonce: nonceSchema,
  signature: signatureSchema,
});
export type EnrolmentGreeting = z.infer<typeof enrolmentGreetingSchema>;

export const enrolmentRequestSchema = z.object({
  tokenId: tokenIdSchema,
  name: nameSchema.refine((name) => !isIdForm(name), "must not have the form of an id"),
  labels: labelsSchema,
  /** The agent's public key, SPKI in DER, base64. */
  spki: base64(128),
  nonce: nonceSchema,
  /** The agent key's signature over the proof transcript, base64. */
  proof: signatureSchema,
  /** HMAC-SHA256 under SHA-256(secret) over the request transcript, base64. */
  mac: base64(32).length(44),
});
export type EnrolmentRequest = z.infer<typeof enrolmentRequestSchema>;

export const enrolmentAnswerSchema = z.object({
  agentId: agentIdSchema,
  /** The name as registered: a replaced agent keeps its own. */
  name: nameSchema,
  cluster: clusterIdSchema,
  /** PEM of the agent's new leaf. */
  certificate: pemSchema,
  agentsCa: pemSchema,
  /** PEM; every nodes CA to trust from now on. */
  nodesCa: pemSchema,
  nodes: z.array(listedNodeSchema).max(256),
  nodesVersion: z.int().nonnegative(),
  /** PEM of the answering node's leaf. */
  chain: pemSchema,
  signature: signatureSchema,
});
export type EnrolmentAnswer = z.infer<typeof enrolmentAnswerSchema>;

/** What both sides know of the cluster before they trust each other: it goes into every transcript. */
export interface ClusterPin {
  readonly cluster: ClusterId;
  /** SHA-256 over the nodes CA's DER, lower-case hex. */
  readonly nodesCaPin: Sha256Hex;
}

export function greetingTranscript(greeting: Pick<EnrolmentGreeting, "nonce">, pin: ClusterPin): Buffer {
  return transcriptOf("holdfast enrolment greeting v1", [greeting.nonce, pin.cluster, pin.nodesCaPin]);
}

type UnprovenRequest = Omit<EnrolmentRequest, "proof" | "mac">;

const requestFields = (request: UnprovenRequest, pin: ClusterPin) => [
  request.tokenId,
  request.name,
  Object.keys(request.labels)
    .toSorted()
    .map((key) => [key, request.labels[key] ?? ""]),
  request.spki,
  request.nonce,
  pin.cluster,
  pin.nodesCaPin,
];

export function proofTranscript(request: UnprovenRequest, pin: ClusterPin): Buffer {
  return transcriptOf("holdfast enrolment proof v1", requestFields(request, pin));
}

/** The request's MAC: it shows knowledge of the token's secret without sending it. */
export function requestMac(request: Omit<EnrolmentRequest, "mac">, pin: ClusterPin, secretDigest: Uint8Array): Buffer {
  const transcript = transcriptOf("holdfast enrolment request v1", [...requestFields(request, pin), request.proof]);
  return createHmac("sha256", secretDigest).update(transcript).digest();
}

export function isRequestMacValid(request: EnrolmentRequest, pin: ClusterPin, secretDigest: Uint8Array): boolean {
  const mac = Buffer.from(request.mac, "base64");
  const expected = requestMac(request, pin, secretDigest);
  return mac.byteLength === expected.byteLength && timingSafeEqual(mac, expected);
}

/** Covers the whole answer and, by nonce and MAC, the one request it answers. */
export function answerTranscript(
  answer: Omit<EnrolmentAnswer, "signature">,
  request: Pick<EnrolmentRequest, "nonce" | "mac">,
): Buffer {
  return transcriptOf("holdfast enrolment answer v1", [
    request.nonce,
    request.mac,
    answer.agentId,
    answer.name,
    answer.cluster,
    answer.certificate,
    answer.agentsCa,
    answer.nodesCa,
    answer.nodes.map((node) => [node.id, node.name, node.addresses]),
    answer.nodesVersion,
    answer.chain,
  ]);
}
