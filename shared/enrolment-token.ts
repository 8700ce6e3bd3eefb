// The text of an enrolment token: `hft_` and base64url of id (16 bytes) ‖ secret (32) ‖ SHA-256 of the nodes CA (32).
// Whether a token still counts is the server's to say. Invariant: no error made here contains any part of the token.
import { AppError } from "./errors.ts";
import { tokenIdSchema } from "./ids.ts";
import type { TokenId } from "./ids.ts";
import { sha256 } from "./thumbprint.ts";
import type { Sha256Hex } from "./thumbprint.ts";

const prefix = "hft_";
const idBytes = 16;
export const tokenSecretBytes = 32;
const pinBytes = 32;
const totalBytes = idBytes + tokenSecretBytes + pinBytes;

export interface EnrolmentToken {
  readonly tokenId: TokenId;
  /** 256 random bits; they stay where the token was typed in. The server keeps SHA-256 of them. */
  readonly secret: Uint8Array;
  /** SHA-256 over the nodes CA's DER, lower-case hex. */
  readonly nodesCaPin: Sha256Hex;
}

export function encodeToken(token: EnrolmentToken): string {
  const bytes = Buffer.concat([
    Buffer.from(token.tokenId.replaceAll("-", ""), "hex"),
    token.secret,
    Buffer.from(token.nodesCaPin, "hex"),
  ]);
  if (bytes.byteLength !== totalBytes)
    throw new AppError("internal", `enrolment token: expected ${totalBytes} bytes, saw ${bytes.byteLength}`);
  return prefix + bytes.toString("base64url");
}

/** Throws AppError `token.refused` for anything but the one canonical text of a token; surrounding blanks are allowed. */
export function decodeToken(text: string): EnrolmentToken {
  const trimmed = text.trim();
  const refuse = (why: string): AppError =>
    new AppError("token.refused", `enrolment token: ${why}`, {
      mend: "Copy the whole token again, or create a new one with `holdfast tokens create`.",
    });
  if (!trimmed.startsWith(prefix)) throw refuse(`expected it to begin with ${prefix}`);
  const bytes = Buffer.from(trimmed.slice(prefix.length), "base64url");
  if (bytes.byteLength !== totalBytes)
    throw refuse(`expected ${totalBytes} bytes, saw ${bytes.byteLength}: part of it is missing or doubled`);
  if (prefix + bytes.toString("base64url") !== trimmed) throw refuse("expected base64url without other characters");
  const idHex = bytes.toString("hex", 0, idBytes);
  const tokenId = tokenIdSchema.parse(idHex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"));
  return {
    tokenId,
    secret: Uint8Array.from(bytes.subarray(idBytes, idBytes + tokenSecretBytes)),
    nodesCaPin: bytes.toString("hex", idBytes + tokenSecretBytes),
  };
}

/** What the server stores, and the key of the request's MAC: SHA-256 of the secret. */
export function tokenSecretDigest(secret: Uint8Array): Buffer {
  return sha256(secret);
}
