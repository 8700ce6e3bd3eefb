// The matrix of peers, proxies and headers: who is believed.
import { describe, expect, test } from "vitest";
import { clientAddress, parseHop, parseTrustedProxies } from "../../../server/api/client-address.ts";
import { AppError } from "../../../shared/errors.ts";

const proxies = parseTrustedProxies(["10.0.0.0/8", "192.168.1.7", "fd00::/8"]);

describe("clientAddress", () => {
  test.each([
    ["the peer when nothing is trusted", "203.0.113.9", "1.1.1.1", "203.0.113.9"],
    ["the peer when it sent no header", "10.0.0.1", undefined, "10.0.0.1"],
    ["the peer when the header is empty", "10.0.0.1", " , ", "10.0.0.1"],
    ["the one entry a trusted proxy added", "10.0.0.1", "203.0.113.9", "203.0.113.9"],
    ["the rightmost untrusted entry, not what a client forged", "10.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"],
    [
      "the rightmost untrusted entry before further proxies",
      "10.0.0.1",
      "6.6.6.6, 203.0.113.9, 10.2.2.2, 192.168.1.7",
      "203.0.113.9",
    ],
    ["the leftmost entry when all are trusted", "10.0.0.1", "10.3.3.3, 10.2.2.2", "10.3.3.3"],
    ["the peer when its neighbour only is trusted", "192.168.1.8", "203.0.113.9", "192.168.1.8"],
    ["the last known hop when an entry is no address", "10.0.0.1", "203.0.113.9, unknown, 10.2.2.2", "10.2.2.2"],
    ["an address without its port", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"],
    ["an IPv6 address without brackets and port", "10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"],
    ["a peer mapped into IPv6 as the IPv4 address it is", "::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"],
    ["an entry mapped into IPv6 as trusted", "10.0.0.1", "203.0.113.9, ::ffff:10.9.9.9", "203.0.113.9"],
    ["an IPv6 proxy as trusted", "fd12::1", "2001:db8::1", "2001:db8::1"],
  ])("answers %s", (_what, peer, forwardedFor, expected) => {
    expect(clientAddress({ peer, forwardedFor }, proxies)).toBe(expected);
  });

  test("believes no header when no proxy is named", () => {
    expect(clientAddress({ peer: "10.0.0.1", forwardedFor: "203.0.113.9" }, parseTrustedProxies([]))).toBe("10.0.0.1");
  });
});

describe("parseTrustedProxies", () => {
  test.each(["0.0.0.0/0", "::/0", "10.0.0.0/0", "::ffff:0.0.0.0/96", "fd00::/0"])(
    "refuses %s, which trusts everyone",
    (range) => {
      expect(() => parseTrustedProxies([range])).toThrowError(expect.objectContaining({ code: "config.invalid" }));
    },
  );

  test.each([
    "",
    "proxy.example.com",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/8/8",
    "10.0.0.0/x",
    "fd00::/129",
    "[fd00::1]",
  ])("refuses %j, which is no range", (range) => {
    expect(() => parseTrustedProxies([range])).toThrowError(AppError);
  });

  test("takes an IPv4 range mapped into IPv6", () => {
    expect(parseTrustedProxies(["::ffff:10.0.0.0/104"]).trusts("10.200.0.1")).toBe(true);
    expect(parseTrustedProxies(["::ffff:10.0.0.0/104"]).trusts("11.0.0.1")).toBe(false);
  });
});

test("parseHop gives one form per address", () => {
  expect(parseHop(" FE80::1%eth0 ")).toBe("fe80::1");
  expect(parseHop("localhost")).toBeUndefined();
});
