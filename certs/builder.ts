// Assembles and signs one X.509 v3 certificate. Decides no content (profile.ts, authority.ts and leaf.ts do) and
// checks nothing afterwards (self-check.ts does). Keys and signatures are node:crypto's; node-forge only writes DER.
import { createPrivateKey, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import {
  bits,
  encode,
  explicit,
  implicit,
  integer,
  octets,
  oid,
  printable,
  sequence,
  set,
  time,
  truth,
  utf8,
} from "./der.ts";
import type { DerValue } from "./der.ts";
import { oids } from "./profile.ts";
import type { Name } from "./profile.ts";
import { keyIdOf, pointOf } from "./public-key.ts";

export type AltName = { readonly uri: string } | { readonly dns: string };

export interface CertificatePlan {
  readonly serial: Uint8Array;
  readonly issuer: Name;
  readonly subject: Name;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly publicKey: KeyObject;
  readonly issuerKeyId: Uint8Array;
  readonly role: "authority" | "leaf";
  readonly purpose: string;
  readonly altNames: readonly AltName[];
}

const signatureAlgorithm = (): DerValue => sequence(oid(oids.ecdsaWithSha256));

const nameOf = (name: Name): DerValue =>
  sequence(
    set(sequence(oid(oids.commonName), utf8(name.commonName))),
    ...(name.serialNumber === undefined ? [] : [set(sequence(oid(oids.serialNumber), printable(name.serialNumber)))]),
  );

const extension = (id: string, value: DerValue, weight: "critical" | "plain" = "plain"): DerValue =>
  sequence(oid(id), ...(weight === "critical" ? [truth()] : []), octets(encode(value)));

function extensionsOf(plan: CertificatePlan): DerValue {
  const isAuthority = plan.role === "authority";
  // keyUsage bits count from the left: digitalSignature is bit 0, keyCertSign bit 5, cRLSign bit 6.
  const usage = isAuthority ? bits(Buffer.from([0b0000_0110]), 1) : bits(Buffer.from([0b1000_0000]), 7);
  // A CA signs leaves only: path length 0. DER leaves out the default CA:false.
  const constraints = isAuthority ? sequence(truth(), integer(Buffer.from([0]))) : sequence();
  const altNames = plan.altNames.map((name) =>
    "uri" in name ? implicit(6, Buffer.from(name.uri)) : implicit(2, Buffer.from(name.dns)),
  );
  return sequence(
    extension(oids.basicConstraints, constraints, "critical"),
    extension(oids.keyUsage, usage, "critical"),
    extension(oids.extendedKeyUsage, sequence(oid(plan.purpose))),
    extension(oids.subjectKeyIdentifier, octets(keyIdOf(plan.publicKey))),
    extension(oids.authorityKeyIdentifier, sequence(implicit(0, plan.issuerKeyId))),
    ...(altNames.length === 0 ? [] : [extension(oids.subjectAltName, sequence(...altNames))]),
  );
}

/** The signed certificate in DER. */
export function buildCertificate(plan: CertificatePlan, issuerPrivateKeyPem: string): Buffer {
  const body = sequence(
    explicit(0, integer(Buffer.from([2]))),
    integer(plan.serial),
    signatureAlgorithm(),
    nameOf(plan.issuer),
    sequence(time(plan.notBeforeMs), time(plan.notAfterMs)),
    nameOf(plan.subject),
    // Built from the point, not copied from the request: what is signed is what OpenSSL understood.
    sequence(sequence(oid(oids.ecPublicKey), oid(oids.prime256v1)), bits(pointOf(plan.publicKey))),
    explicit(3, extensionsOf(plan)),
  );
  const signature = sign("sha256", encode(body), createPrivateKey(issuerPrivateKeyPem));
  return encode(sequence(body, signatureAlgorithm(), bits(signature)));
}

export function toPem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
