// Decides whether and by which CA a certificate was issued. The agent uses it too, so it loads no builder and no
// node-forge. Invariant: a leaf is accepted only from a CA of the kind that its purpose belongs to, by OpenSSL's word.
import { X509Certificate } from "node:crypto";
import type { Clock } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import { sha256Hex } from "../shared/thumbprint.ts";
import type { Sha256Hex } from "../shared/thumbprint.ts";
import { purposeOf } from "./profile.ts";
import type { AuthorityKind } from "./profile.ts";

/** A CA that may vouch for leaves, parsed once: parsing takes longer than verifying. */
export interface TrustAnchor {
  readonly kind: AuthorityKind;
  readonly certificate: X509Certificate;
}

/** Parses a CA certificate of our own store; throws AppError `certificate.invalid` when it is no CA of that kind. */
export function readTrustAnchor(authority: {
  readonly kind: AuthorityKind;
  readonly certificatePem: string;
}): TrustAnchor {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(authority.certificatePem);
  } catch (cause) {
    throw new AppError("certificate.invalid", `the ${authority.kind} CA is no certificate`, { cause });
  }
  if (!certificate.ca || !certificate.verify(certificate.publicKey)) {
    throw new AppError("certificate.invalid", `expected a self-signed CA, saw ${certificate.subject}`);
  }
  if (certificate.keyUsage?.join(" ") !== purposeOf[authority.kind]) {
    throw new AppError(
      "certificate.invalid",
      `expected an ${authority.kind} CA, saw purpose ${String(certificate.keyUsage)}`,
    );
  }
  return { kind: authority.kind, certificate };
}

/** SHA-256 over the CA certificate's DER, lower-case hex: what enrolment tokens pin. */
export function pinOf(authority: Pick<TrustAnchor, "certificate">): Sha256Hex {
  return sha256Hex(authority.certificate.raw);
}

/** Whether the moment lies within the certificate's validity, both ends included. */
export function isValidAt(certificate: X509Certificate, wallMs: number): boolean {
  return certificate.validFromDate.getTime() <= wallMs && wallMs <= certificate.validToDate.getTime();
}

/**
 * The anchor that issued the leaf, decided by OpenSSL's signature check, names, purpose and both validities.
 * `undefined` for a leaf of the other kind, of a retired or foreign CA, for a CA itself and outside validity.
 */
export function issuerOf(
  leaf: X509Certificate,
  anchors: readonly TrustAnchor[],
  deps: { readonly clock: Pick<Clock, "wallMs"> },
): TrustAnchor | undefined {
  const nowMs = deps.clock.wallMs();
  if (leaf.ca || !isValidAt(leaf, nowMs)) return undefined;
  return anchors.find(
    ({ kind, certificate }) =>
      leaf.keyUsage?.join(" ") === purposeOf[kind] &&
      isValidAt(certificate, nowMs) &&
      leaf.checkIssued(certificate) &&
      leaf.verify(certificate.publicKey),
  );
}
