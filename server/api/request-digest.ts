// The digest that decides whether two requests under one idempotency key are the same: SHA-256 over canonical JSON
// (keys sorted at every level), so that neither key order nor white space makes a difference.
import { sha256Hex, type Sha256Hex } from "../../shared/thumbprint.ts";

export function requestDigest(request: unknown): Sha256Hex {
  return sha256Hex(canonicalJson(request));
}

export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([one], [other]) => (one < other ? -1 : 1)))
      : inner,
  );
}
