// Makes the cluster's two self-signed CAs. Keeps no key: storing them encrypted is the server's work; whom they vouch
// for is decided in trust.ts. Invariant: a CA carries the one purpose of its kind and signs leaves only.
import { createPublicKey } from "node:crypto";
import type { Clock } from "../shared/clock.ts";
import type { ClusterId } from "../shared/ids.ts";
import type { Random } from "../shared/random.ts";
import { buildCertificate, toPem } from "./builder.ts";
import { authorityLifetimeMs, authorityName, backdateMs, purposeOf, serialBytes } from "./profile.ts";
import type { AuthorityKind } from "./profile.ts";
import { generateKeyPair, keyIdOf } from "./public-key.ts";
import { selfCheck } from "./self-check.ts";

export interface Authority {
  readonly kind: AuthorityKind;
  readonly certificatePem: string;
  /** PKCS#8; encrypt it before it is written anywhere. */
  readonly privateKeyPem: string;
}

/** A new CA for ten years, with a new P-256 key. */
export function createAuthority(options: {
  readonly kind: AuthorityKind;
  readonly cluster: ClusterId;
  readonly clock: Pick<Clock, "wallMs">;
  readonly random: Pick<Random, "bytes">;
}): Authority {
  const { publicKeySpki, privateKeyPem } = generateKeyPair();
  const publicKey = createPublicKey({ key: publicKeySpki, format: "der", type: "spki" });
  const keyId = keyIdOf(publicKey);
  const name = authorityName(options.kind, options.cluster, keyId);
  const nowMs = options.clock.wallMs();
  const plan = {
    serial: options.random.bytes(serialBytes),
    issuer: name,
    subject: name,
    notBeforeMs: nowMs - backdateMs,
    notAfterMs: nowMs + authorityLifetimeMs,
    publicKey,
    issuerKeyId: keyId,
    role: "authority",
    purpose: purposeOf[options.kind],
    altNames: [],
  } as const;
  const der = buildCertificate(plan, privateKeyPem);
  selfCheck(der, plan, publicKey);
  return { kind: options.kind, certificatePem: toPem(der), privateKeyPem };
}
