// Which proxy, if any, an agent goes through to reach an address: what was asked for, else what the environment says, and
// the exceptions of NO_PROXY. Opening the way is proxy-tunnel.ts's. Invariant: credentials never leave here as text.
import { BlockList, isIP } from "node:net";
import { AppError } from "../shared/errors.ts";

const kinds = ["http:", "https:", "socks5:", "socks5h:"] as const;
export type ProxyKind = (typeof kinds)[number];

export interface Proxy {
  readonly kind: ProxyKind;
  readonly host: string;
  readonly port: number;
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** As people are shown it: without its credentials. */
  readonly shown: string;
}

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

/** Of `host:port` or `[::1]:port`. */
export function hostAndPort(address: string): HostAndPort {
  const at = address.lastIndexOf(":");
  return { host: address.slice(0, at).replaceAll(/[[\]]/g, ""), port: Number(address.slice(at + 1)) };
}

const defaultPorts: Readonly<Record<ProxyKind, number>> = {
  "http:": 3128,
  "https:": 443,
  "socks5:": 1080,
  "socks5h:": 1080,
};

/** `http://user:password@proxy:3128`, `socks5://proxy`. Throws `config.invalid` without repeating the credentials. */
export function parseProxy(text: string, source: string): Proxy {
  const mend = "Write it as http://proxy:3128, http://user:password@proxy:3128 or socks5://proxy:1080.";
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const kind = kinds.find((one) => one === url?.protocol);
  if (url === undefined || kind === undefined || url.hostname === "" || url.pathname.length > 1)
    throw new AppError("config.invalid", `${source}: not the URL of a proxy`, { mend });
  const host = url.hostname.replaceAll(/[[\]]/g, "");
  // A URL hides the port that is its scheme's own.
  const port = url.port === "" ? (/:80\/?$/.test(text) ? 80 : defaultPorts[kind]) : Number(url.port);
  const decoded = (part: string): string | undefined => {
    try {
      return part === "" ? undefined : decodeURIComponent(part);
    } catch {
      throw new AppError("config.invalid", `${source}: user or password is not percent-encoded`, { mend });
    }
  };
  const shown = `${kind}//${host.includes(":") ? `[${host}]` : host}:${port}`;
  return { kind, host, port, user: decoded(url.username), password: decoded(url.password), shown };
}

type Environment = Readonly<Record<string, string | undefined>>;

export class ProxyRules {
  readonly proxy: Proxy | undefined;
  /** `--proxy` or the name of a variable; empty without a proxy. */
  readonly source: string;
  readonly #exempt: readonly ((target: HostAndPort) => boolean)[];

  constructor(proxy: Proxy | undefined, exceptions = "", source = "") {
    this.proxy = proxy;
    this.source = source;
    this.#exempt = exceptions.split(/[\s,]+/).flatMap((text) => (text === "" ? [] : [exemption(text.toLowerCase())]));
  }

  /** `asked` (a flag, a saved setting) goes before HTTPS_PROXY, HTTP's own is for plain servers; NO_PROXY is always heeded. */
  static read(asked: string | undefined, environment: Environment): ProxyRules {
    const [name, text] =
      asked !== undefined && asked !== ""
        ? ["--proxy", asked]
        : (["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
            .map((variable) => [variable, environment[variable] ?? ""] as const)
            .find(([, value]) => value !== "") ?? ["", ""]);
    const exceptions = environment["NO_PROXY"] ?? environment["no_proxy"] ?? "";
    return new ProxyRules(text === "" ? undefined : parseProxy(text, name), exceptions, name);
  }

  proxyFor(target: HostAndPort): Proxy | undefined {
    return this.#exempt.some((isExempt) => isExempt(target)) ? undefined : this.proxy;
  }
}

/** `*`, a host or a part of its name, an address, a network `10.0.0.0/8`; each with a port when one is given. */
function exemption(text: string): (target: HostAndPort) => boolean {
  if (text === "*") return () => true;
  const [, network = "", bits] = /^([0-9a-f.:]+)\/(\d{1,3})$/.exec(text) ?? [];
  if (bits !== undefined && isIP(network) !== 0) return inNetwork(network, Number(bits));
  const [, name = text, port] = isIP(text) === 6 ? [] : (/^\[?(.*?)\]?(?::(\d+))?$/.exec(text) ?? []);
  const isName = nameMatcher(name);
  return (target) => (port === undefined || target.port === Number(port)) && isName(target.host.toLowerCase());
}

function nameMatcher(name: string): (host: string) => boolean {
  const suffix = name.replace(/^\*?\./, "");
  return (host) => host === suffix || (isIP(host) === 0 && host.endsWith(`.${suffix}`));
}

function inNetwork(network: string, bits: number): (target: HostAndPort) => boolean {
  const family = isIP(network) === 4 ? "ipv4" : "ipv6";
  if (bits > (family === "ipv4" ? 32 : 128)) return () => false;
  const list = new BlockList();
  list.addSubnet(network, bits, family);
  return ({ host }) => isIP(host) !== 0 && list.check(host, isIP(host) === 4 ? "ipv4" : "ipv6");
}
