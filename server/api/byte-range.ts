// The Range header (RFC 9110, section 14) as far as downloads need it: one range of bytes. Pure. What is malformed or asks for
// several is answered with the whole, as the RFC allows.

export type ByteRange =
  | { readonly kind: "whole" }
  /** Both ends belong to it. */
  | { readonly kind: "part"; readonly start: number; readonly end: number }
  /** Begins behind the end of the file. */
  | { readonly kind: "beyond" };

export function parseRange(header: string | undefined, bytes: number): ByteRange {
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.replaceAll(" ", "") ?? "") ?? [];
  if (first === "" && last === "") return { kind: "whole" };
  if (first === "") {
    const count = Math.min(Number(last), bytes);
    return count === 0 ? { kind: "beyond" } : { kind: "part", start: bytes - count, end: bytes - 1 };
  }
  const start = Number(first);
  const end = last === "" ? bytes - 1 : Math.min(Number(last), bytes - 1);
  if (last !== "" && Number(last) < start) return { kind: "whole" };
  return start >= bytes ? { kind: "beyond" } : { kind: "part", start, end };
}
