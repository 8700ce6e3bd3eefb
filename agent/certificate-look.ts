// A second look at an address whose TLS was refused: whose certificate stands there, or what speaks there instead of TLS.
// Invariant: nothing seen here is believed or acted on; no client certificate and no secret is shown, and the one thing
// sent, to what is not TLS at all, is an empty HTTP request. It only gives a person's report its words.
import type { X509Certificate } from "node:crypto";
import { connect as connectTcp } from "node:net";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Clock } from "../shared/clock.ts";
import { describeError, errnoOf } from "../shared/errors.ts";
import { hostAndPort, type HostAndPort, type ProxyRules } from "./proxy.ts";
import { openTunnel } from "./proxy-tunnel.ts";

export type Look =
  | { readonly kind: "certificate"; readonly leaf: X509Certificate }
  /** No TLS: the first line that came, empty when none did. */
  | { readonly kind: "plain"; readonly firstLine: string }
  | { readonly kind: "nothing"; readonly why: string };

export interface LookOptions {
  /** `host:port` */
  readonly address: string;
  readonly servername: string;
  readonly withinMs: number;
}

type Deps = { readonly clock: Pick<Clock, "after">; readonly proxies?: ProxyRules };

/** Never throws; a way through a proxy and the look itself each end within `withinMs`. */
export async function lookAt(options: LookOptions, deps: Deps): Promise<Look> {
  const seen = await through(options, deps, lookThroughTls);
  return seen.kind === "plain" ? await through(options, deps, lookWithoutTls) : seen;
}

type Way = HostAndPort | { readonly socket: Socket };

async function through(
  options: LookOptions,
  deps: Deps,
  look: (way: Way, options: LookOptions, deps: Deps) => Promise<Look>,
): Promise<Look> {
  const place = hostAndPort(options.address);
  const proxy = deps.proxies?.proxyFor(place);
  if (proxy === undefined) return look(place, options, deps);
  try {
    return await look({ socket: await openTunnel(proxy, place, { timeoutMs: options.withinMs }) }, options, deps);
  } catch (cause) {
    return { kind: "nothing", why: describeError(cause).slice(0, 200) };
  }
}

function lookThroughTls(way: Way, options: LookOptions, deps: Deps): Promise<Look> {
  const { servername } = options;
  // An intercepting proxy may speak TLS 1.2 only, and is to be named all the same.
  const open = { ...way, servername, rejectUnauthorized: false, minVersion: "TLSv1.2" } as const;
  const socket = connectTls(open);
  return watched(socket, { options, deps }, (resolve) => {
    socket.once("secureConnect", () => {
      const leaf = socket.getPeerX509Certificate();
      resolve(
        leaf === undefined ? { kind: "nothing", why: "no certificate was shown" } : { kind: "certificate", leaf },
      );
    });
  });
}

function lookWithoutTls(way: Way, options: LookOptions, deps: Deps): Promise<Look> {
  const socket = "socket" in way ? way.socket : connectTcp(way);
  return watched(socket, { options, deps }, (resolve) => {
    const ask = (): void => void socket.write("GET / HTTP/1.0\r\n\r\n");
    if ("socket" in way) ask();
    else socket.once("connect", ask);
    socket.once("data", (data: Buffer) => {
      const [line = ""] = data
        .subarray(0, 200)
        .toString("latin1")
        .split(/[\r\n]/, 1);
      resolve({ kind: "plain", firstLine: line.replaceAll(/[^ -~]/g, "?") });
    });
    socket.once("end", () => resolve({ kind: "plain", firstLine: "" }));
  });
}

function watched(
  socket: Socket,
  { options, deps }: { readonly options: LookOptions; readonly deps: Deps },
  listen: (resolve: (look: Look) => void) => void,
): Promise<Look> {
  return new Promise((resolve) => {
    const finish = (look: Look): void => {
      timer.cancel();
      socket.destroy();
      resolve(look);
    };
    const timer = deps.clock.after(options.withinMs, () => finish({ kind: "nothing", why: "no answer in time" }));
    socket.on("error", (cause) =>
      finish(
        isNoTls(cause)
          ? { kind: "plain", firstLine: "" }
          : { kind: "nothing", why: describeError(cause).slice(0, 200) },
      ),
    );
    listen(finish);
  });
}

/** OpenSSL's words for bytes that are no TLS record. */
export function isNoTls(cause: unknown): boolean {
  const code = errnoOf(cause);
  return (
    code === "ERR_SSL_WRONG_VERSION_NUMBER" ||
    code === "ERR_SSL_PACKET_LENGTH_TOO_LONG" ||
    code === "ERR_SSL_HTTP_REQUEST" ||
    code === "ERR_SSL_UNKNOWN_PROTOCOL"
  );
}
