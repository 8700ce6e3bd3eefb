// Public keys of agents and nodes: reads an SPKI through OpenSSL, admits P-256 only, and proves possession of the
// private half by a signature. Invariant: bytes from strangers are parsed by node:crypto alone.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { AppError } from "../shared/errors.ts";
import type { AgentId, ClusterId } from "../shared/ids.ts";
import { transcriptOf } from "../shared/transcript.ts";

/** An SPKI of P-256 takes 91 bytes; anything much longer is not one. */
export const spkiBytesAtMost = 128;

/** What stands before the point in every uncompressed P-256 SPKI: lengths, id-ecPublicKey, prime256v1. */
const spkiHead = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex");

export interface KeyPair {
  readonly publicKeySpki: Buffer;
  readonly privateKeyPem: string;
}

/** A new P-256 pair from OpenSSL's own randomness. */
export function generateKeyPair(): KeyPair {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  return {
    publicKeySpki: publicKey.export({ type: "spki", format: "der" }),
    privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

/** Reads an SPKI in DER. Throws AppError `enrolment.proof-invalid` for anything but one uncompressed P-256 key. */
export function readPublicKey(spki: Uint8Array): KeyObject {
  const refuse = (seen: string, cause?: unknown): AppError =>
    new AppError("enrolment.proof-invalid", `public key: expected an SPKI with a P-256 key, saw ${seen}`, { cause });
  if (spki.byteLength > spkiBytesAtMost) throw refuse(`${spki.byteLength} bytes`);
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
  } catch (cause) {
    throw refuse("bytes that are no key", cause);
  }
  if (key.asymmetricKeyType !== "ec" || key.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
    throw refuse(`${key.asymmetricKeyType} ${key.asymmetricKeyDetails?.namedCurve ?? ""}`.trim());
  }
  // One key must have one form, or the same key could be counted as two. Not by export: it keeps a compressed point.
  if (!Buffer.concat([spkiHead, pointOf(key)]).equals(spki)) throw refuse("another encoding of the key");
  return key;
}

/** The 65 bytes `04 ‖ x ‖ y` that key ids are taken over. */
export function pointOf(key: KeyObject): Buffer {
  const { x, y } = key.export({ format: "jwk" });
  if (x === undefined || y === undefined) throw new AppError("internal", "the key has no curve point");
  return Buffer.concat([Buffer.from([4]), Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]);
}

/** Key id by RFC 7093 method 1: the left 160 bits of SHA-256 over the point. */
export function keyIdOf(key: KeyObject): Buffer {
  return createHash("sha256").update(pointOf(key)).digest().subarray(0, 20);
}

/** ECDSA with SHA-256, DER form, over bytes that already name their purpose (shared/transcript.ts). */
export function signTranscript(privateKeyPem: string, transcript: Uint8Array): Buffer {
  return sign("sha256", transcript, createPrivateKey(privateKeyPem));
}

export function verifyTranscript(key: KeyObject, transcript: Uint8Array, signature: Uint8Array): boolean {
  return verify("sha256", transcript, key, signature);
}

/** What a renewing agent signs with its new key: the session proves the old one, this proves the new. */
export function renewalTranscript(renewal: {
  readonly cluster: ClusterId;
  readonly agentId: AgentId;
  readonly publicKeySpki: Uint8Array;
}): Buffer {
  return transcriptOf("holdfast renewal v1", [renewal.cluster, renewal.agentId, renewal.publicKeySpki]);
}
