// Which proxy an address is reached through.
import { describe, expect, it } from "vitest";
import { hostAndPort, parseProxy, ProxyRules } from "../../../agent/proxy.ts";

const asked = "http://proxy.example:3128";
const through = (exceptions: string, address: string): boolean =>
  ProxyRules.read(asked, { NO_PROXY: exceptions }).proxyFor(hostAndPort(address)) !== undefined;

describe("the URL of a proxy", () => {
  it.each([
    ["http://proxy", { kind: "http:", host: "proxy", port: 3128, user: undefined }],
    ["http://proxy:80", { host: "proxy", port: 80 }],
    ["https://proxy", { kind: "https:", port: 443 }],
    ["socks5://proxy", { kind: "socks5:", port: 1080 }],
    ["socks5h://[::1]:9050", { kind: "socks5h:", host: "::1", port: 9050, shown: "socks5h://[::1]:9050" }],
    ["http://u%40x:p%3A%2F@proxy:8080", { user: "u@x", password: "p:/", shown: "http://proxy:8080" }],
  ])("%s", (text, expected) => {
    expect(parseProxy(text, "--proxy")).toMatchObject(expected);
  });

  it.each(["proxy:3128", "ftp://proxy", "http://", "", "http://proxy/path", "http://%zz:s3cret@proxy"])(
    "that is none is refused, and not repeated: %j",
    (text) => {
      const refusal = expect.objectContaining({
        code: "config.invalid",
        message: expect.not.stringContaining("s3cret"),
      });
      expect(() => parseProxy(text, "--proxy")).toThrow(refusal);
    },
  );
});

describe("where it comes from", () => {
  const shown = (given: string | undefined, environment: Record<string, string>): string | undefined =>
    ProxyRules.read(given, environment).proxyFor({ host: "node", port: 1 })?.shown;

  it("is what was asked for, then the environment, of which HTTPS_PROXY goes first", () => {
    const environment = { https_proxy: "http://small", ALL_PROXY: "socks5://all", HTTPS_PROXY: "http://large" };
    expect(shown("http://asked", environment)).toBe("http://asked:3128");
    expect(shown(undefined, environment)).toBe("http://large:3128");
    expect(shown(undefined, { ALL_PROXY: "socks5://all" })).toBe("socks5://all:1080");
    expect(shown(undefined, { HTTP_PROXY: "http://plain" })).toBeUndefined();
    expect(shown(undefined, {})).toBeUndefined();
  });

  it("names the variable that holds something else", () => {
    expect(() => ProxyRules.read(undefined, { HTTPS_PROXY: "nonsense" })).toThrow(
      "HTTPS_PROXY: not the URL of a proxy",
    );
  });
});

describe("exceptions", () => {
  it.each([
    ["*", "any.where:1"],
    ["example.com", "example.com:443"],
    ["example.com", "a.b.example.com:443"],
    [".example.com", "A.Example.com:443"],
    ["*.example.com", "a.example.com:443"],
    ["a, example.com:10943 ,b", "node.example.com:10943"],
    ["10.0.0.7", "10.0.0.7:1"],
    ["10.0.0.0/8", "10.9.8.7:1"],
    ["fd00::/8", "[fd12::1]:1"],
    ["::1", "[::1]:1"],
  ])("%s holds for %s", (exceptions, address) => expect(through(exceptions, address)).toBe(false));

  it.each([
    ["", "example.com:1"],
    ["example.com", "notexample.com:1"],
    ["example.com:443", "example.com:10943"],
    ["0.0.7", "10.0.0.7:1"],
    ["10.0.0.0/8", "11.0.0.1:1"],
    ["10.0.0.0/8", "host.example:1"],
    ["10.0.0.0/99", "10.0.0.1:1"],
  ])("%s does not for %s", (exceptions, address) => expect(through(exceptions, address)).toBe(true));
});
