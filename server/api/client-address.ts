// Whose request this is when load balancers stand in between. Pure. Invariant: an address is believed only when every
// hop to its right is a trusted proxy, so a client cannot choose its own by sending X-Forwarded-For.
import { BlockList, isIP } from "node:net";
import { AppError } from "../../shared/errors.ts";

export interface TrustedProxies {
  /** Takes an address as {@link parseHop} gives it. */
  trusts(address: string): boolean;
}

/** Addresses (`10.0.0.7`) and ranges (`10.0.0.0/8`, `fd00::/8`). Ranges that trust everyone are refused with `config.invalid`. */
export function parseTrustedProxies(ranges: readonly string[]): TrustedProxies {
  const list = new BlockList();
  for (const range of ranges) addRange(list, range.trim());
  return { trusts: (address) => list.check(address, familyOf(address)) };
}

export interface Hops {
  /** Address of the socket's other end. */
  readonly peer: string;
  /** The X-Forwarded-For header as received; several are joined by commas. */
  readonly forwardedFor: string | undefined;
}

/**
 * The rightmost untrusted entry; the leftmost when all are trusted; the peer when the peer itself is not trusted.
 * An entry that is no address ends the chain: what stands to its right is the last thing known.
 */
export function clientAddress(hops: Hops, proxies: TrustedProxies): string {
  let known = parseHop(hops.peer) ?? hops.peer;
  if (isIP(known) === 0 || !proxies.trusts(known)) return known;
  const entries = (hops.forwardedFor ?? "").split(",").filter((entry) => entry.trim() !== "");
  for (const entry of entries.toReversed()) {
    const address = parseHop(entry);
    if (address === undefined) return known;
    known = address;
    if (!proxies.trusts(address)) return address;
  }
  return known;
}

/** One address without port, brackets or zone; an IPv4 address mapped into IPv6 in its plain form. Undefined when it is none. */
export function parseHop(text: string): string | undefined {
  const trimmed = text.trim();
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(trimmed)?.[1] ?? /^([\d.]+):\d+$/.exec(trimmed)?.[1] ?? trimmed;
  const address = bare.replace(/%.*$/, "").toLowerCase();
  const plain = /^::ffff:([\d.]+)$/.exec(address)?.[1] ?? address;
  return isIP(plain) === 0 ? undefined : plain;
}

function addRange(list: BlockList, range: string): void {
  const [text = "", bits, ...rest] = range.split("/");
  const address = parseHop(text);
  if (
    address === undefined ||
    text.includes("[") ||
    rest.length > 0 ||
    (bits !== undefined && !/^\d{1,3}$/.test(bits))
  ) {
    throw new AppError("config.invalid", `trusted proxies: "${range}" is not an address or a range such as 10.0.0.0/8`);
  }
  const family = familyOf(address);
  const width = family === "ipv4" ? 32 : 128;
  const mapped = text.toLowerCase().startsWith("::ffff:") && family === "ipv4";
  const prefix = bits === undefined ? width : Number(bits) - (mapped ? 96 : 0);
  if (prefix <= 0) {
    throw new AppError(
      "config.invalid",
      `trusted proxies: "${range}" trusts every address, so any client could forge its own`,
      {
        mend: "Name the ranges of your load balancers only.",
      },
    );
  }
  if (prefix > width) throw new AppError("config.invalid", `trusted proxies: "${range}" has a prefix over ${width}`);
  list.addSubnet(address, prefix, family);
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return isIP(address) === 6 ? "ipv6" : "ipv4";
}
