// The text of an enrolment token: `hft_` and base64url of id (16 bytes) ‖ secret (32) ‖ SHA-256 of the nodes CA (32), then,
// when the cluster serves executables of the agent, `.` and the first 16 bytes of SHA-256 over its list of their sums in hex,
// which a shell can take off without decoding anything. 128 bits are enough: to deceive, a second list has to be found for a
// given one (2¹²⁸), not any two that agree. The rest of the token does not vouch for it: install.sh reads it, nobody else.
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
/** Of SHA-256 over the list of executables' sums. */
export const listDigestHex = 32;
const totalBytes = idBytes + tokenSecretBytes + pinBytes;

export interface EnrolmentToken {
  readonly tokenId: TokenId;
  /** 256 random bits; they stay where the token was typed in. The server keeps SHA-256 of them. */
  readonly secret: Uint8Array;
  /** SHA-256 over the nodes CA's DER, lower-case hex. */
  readonly nodesCaPin: Sha256Hex;
  /** First 32 hex digits of SHA-256 over `/downloads/SHA256SUMS`; absent when nothing was served. */
  readonly listDigest?: string | undefined;
}

export function encodeToken(token: EnrolmentToken): string {
  const bytes = Buffer.concat([
    Buffer.from(token.tokenId.replaceAll("-", ""), "hex"),
    token.secret,
    Buffer.from(token.nodesCaPin, "hex"),
  ]);
  if (bytes.byteLength !== totalBytes)
    throw new AppError("internal", `enrolment token: expected ${totalBytes} bytes, saw ${bytes.byteLength}`);
  return prefix + bytes.toString("base64url") + (token.listDigest === undefined ? "" : `.${token.listDigest}`);
}

/** Throws AppError `token.refused` for anything but the one canonical text of a token; surrounding blanks are allowed. */
export function decodeToken(text: string): EnrolmentToken {
  const trimmed = text.trim();
  const refuse = (why: string): AppError =>
    new AppError("token.refused", `enrolment token: ${why}`, {
      mend: "Copy the whole token again, or create a new one with `holdfast tokens create`.",
    });
  if (!trimmed.startsWith(prefix)) throw refuse(`expected it to begin with ${prefix}`);
  const point = trimmed.indexOf(".");
  const main = point < 0 ? trimmed : trimmed.slice(0, point);
  const listDigest = point < 0 ? undefined : trimmed.slice(point + 1);
  if (listDigest !== undefined && !/^[0-9a-f]{32}$/.test(listDigest))
    throw refuse(`expected ${listDigestHex} hex digits behind the point, saw ${listDigest.length} characters`);
  const bytes = Buffer.from(main.slice(prefix.length), "base64url");
  if (bytes.byteLength !== totalBytes)
    throw refuse(`expected ${totalBytes} bytes, saw ${bytes.byteLength}: part of it is missing or doubled`);
  if (prefix + bytes.toString("base64url") !== main) throw refuse("expected base64url without other characters");
  const idHex = bytes.toString("hex", 0, idBytes);
  const tokenId = tokenIdSchema.parse(idHex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"));
  return {
    tokenId,
    secret: Uint8Array.from(bytes.subarray(idBytes, idBytes + tokenSecretBytes)),
    nodesCaPin: bytes.toString("hex", idBytes + tokenSecretBytes),
    ...(listDigest === undefined ? {} : { listDigest }),
  };
}

/** What the server stores, and the key of the request's MAC: SHA-256 of the secret. */
export function tokenSecretDigest(secret: Uint8Array): Buffer {
  return sha256(secret);
}
