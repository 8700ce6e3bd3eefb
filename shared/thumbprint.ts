// SHA-256 digests in the forms the project shows: a certificate's thumbprint and a key's pin, lower-case hex.
import { createHash } from "node:crypto";

export type Sha256Hex = string;

export function sha256Hex(bytes: Uint8Array | string): Sha256Hex {
  return createHash("sha256").update(bytes).digest("hex");
}

export function sha256(bytes: Uint8Array | string): Buffer {
  return createHash("sha256").update(bytes).digest();
}
