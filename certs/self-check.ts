// Reads a certificate just built back through OpenSSL and compares every field with its plan, so that a builder
// defect never leaves the process. The extension bytes are spelled out here a second time, on purpose not by der.ts.
import { X509Certificate } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { AppError } from "../shared/errors.ts";
import type { CertificatePlan } from "./builder.ts";
import { leafBytesAtMost, oids } from "./profile.ts";
import { keyIdOf } from "./public-key.ts";

const extensionHex = {
  leafConstraints: "300c0603551d130101ff04023000",
  authorityConstraints: "30120603551d130101ff040830060101ff020100",
  leafUsage: "300e0603551d0f0101ff040403020780",
  authorityUsage: "300e0603551d0f0101ff040403020106",
  clientAuth: "30130603551d25040c300a06082b06010505070302",
  serverAuth: "30130603551d25040c300a06082b06010505070301",
  subjectKeyId: "301d0603551d0e04160414",
  authorityKeyId: "301f0603551d23041830168014",
} as const;

const wholeSeconds = (wallMs: number): number => Math.floor(wallMs / 1_000) * 1_000;

/** Throws AppError `internal` naming the first field that differs; otherwise gives the parsed certificate. */
export function selfCheck(der: Uint8Array, plan: CertificatePlan, issuerKey: KeyObject): X509Certificate {
  const certificate = new X509Certificate(der);
  const hex = Buffer.from(der).toString("hex");
  const isLeaf = plan.role === "leaf";
  const altNames = plan.altNames.map((name) => ("uri" in name ? `URI:${name.uri}` : `DNS:${name.dns}`)).join(", ");
  const nameLines = (name: CertificatePlan["subject"]): string =>
    `CN=${name.commonName}${name.serialNumber === undefined ? "" : `\nserialNumber=${name.serialNumber}`}`;
  const serial = Buffer.from(plan.serial)
    .toString("hex")
    .replace(/^(00)+/, "");
  const expectations: readonly (readonly [field: string, seen: unknown, expected: unknown])[] = [
    ["signature", certificate.verify(issuerKey), true],
    ["bytes", certificate.raw.equals(Buffer.from(der)), true],
    ["serial number", certificate.serialNumber.toLowerCase().replace(/^(00)+/, ""), serial],
    ["issuer", certificate.issuer, nameLines(plan.issuer)],
    ["subject", certificate.subject, nameLines(plan.subject)],
    ["start", certificate.validFromDate.getTime(), wholeSeconds(plan.notBeforeMs)],
    ["end", certificate.validToDate.getTime(), wholeSeconds(plan.notAfterMs)],
    ["public key", certificate.publicKey.equals(plan.publicKey), true],
    ["CA flag", certificate.ca, !isLeaf],
    ["purposes", certificate.keyUsage?.join(" "), plan.purpose],
    ["alternative names", certificate.subjectAltName ?? "", altNames],
    ["constraints", hex.includes(isLeaf ? extensionHex.leafConstraints : extensionHex.authorityConstraints), true],
    ["key usage", hex.includes(isLeaf ? extensionHex.leafUsage : extensionHex.authorityUsage), true],
    [
      "purpose bytes",
      hex.includes(plan.purpose === oids.clientAuth ? extensionHex.clientAuth : extensionHex.serverAuth),
      true,
    ],
    ["key id", hex.includes(extensionHex.subjectKeyId + keyIdOf(plan.publicKey).toString("hex")), true],
    [
      "issuer's key id",
      hex.includes(extensionHex.authorityKeyId + Buffer.from(plan.issuerKeyId).toString("hex")),
      true,
    ],
    ["size", der.byteLength <= leafBytesAtMost, true],
  ];
  for (const [field, seen, expected] of expectations) {
    if (seen !== expected) {
      throw new AppError(
        "internal",
        `self-check of an issued certificate: ${field}: expected ${String(expected)}, saw ${String(seen)}`,
      );
    }
  }
  return certificate;
}
