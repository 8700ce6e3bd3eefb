// Opens a way through a proxy: CONNECT over HTTP or HTTPS with Basic credentials, or SOCKS5. What runs through it, TLS with
// the node above all, sees an ordinary socket. Invariant: a proxy is told a name and a port, and nothing of what follows.
import type { Socket } from "node:net";
import { SocksClient } from "socks";
import { systemClock } from "../shared/clock.ts";
import { AppError, describeError } from "../shared/errors.ts";
import { requestHttp, requestHttps } from "./http-request.ts";
import type { HostAndPort, Proxy } from "./proxy.ts";

/** What a proxy refused, or that it did not answer: told apart from what is behind it. */
export class ProxyError extends AppError {}

export interface TunnelOptions {
  readonly timeoutMs: number;
}

/** Rejects with `cluster.unreachable`, whose words say whether the proxy or what is behind it did not answer. */
export function openTunnel(proxy: Proxy, target: HostAndPort, options: TunnelOptions): Promise<Socket> {
  return proxy.kind === "http:" || proxy.kind === "https:"
    ? connectThroughHttp(proxy, target, options)
    : connectThroughSocks(proxy, target, options);
}

/** For requests that the proxy itself is to read. */
export function authorization({ user, password }: Proxy): Record<string, string> {
  if (user === undefined) return {};
  return { "proxy-authorization": `Basic ${Buffer.from(`${user}:${password ?? ""}`).toString("base64")}` };
}

function connectThroughHttp(proxy: Proxy, target: HostAndPort, { timeoutMs }: TunnelOptions): Promise<Socket> {
  const place = `${target.host.includes(":") ? `[${target.host}]` : target.host}:${target.port}`;
  const send = proxy.kind === "https:" ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    const request = send({
      method: "CONNECT",
      host: proxy.host,
      port: proxy.port,
      path: place,
      headers: { host: place, ...authorization(proxy) },
      agent: false,
    });
    const late = (): void => void request.destroy(new Error(`no answer within ${timeoutMs} ms`));
    const timer = systemClock.after(timeoutMs, late);
    const fail = (error: ProxyError): void => {
      timer.cancel();
      reject(error);
      request.destroy();
    };
    request.once("connect", (response, socket: Socket, head) => {
      timer.cancel();
      if (response.statusCode !== 200) {
        socket.destroy();
        fail(refused(proxy, place, response.statusCode ?? 0));
        return;
      }
      if (head.length > 0) socket.unshift(head);
      resolve(socket);
    });
    // A proxy that answers with a page of its own.
    request.once("response", (response) => fail(refused(proxy, place, response.statusCode ?? 0)));
    request.on("error", (cause) => fail(unreachable(proxy, cause)));
    request.end();
  });
}

async function connectThroughSocks(proxy: Proxy, target: HostAndPort, { timeoutMs }: TunnelOptions): Promise<Socket> {
  try {
    const { socket } = await SocksClient.createConnection({
      command: "connect",
      destination: target,
      timeout: timeoutMs,
      proxy: {
        host: proxy.host,
        port: proxy.port,
        type: 5,
        ...(proxy.user === undefined ? {} : { userId: proxy.user, password: proxy.password ?? "" }),
      },
    });
    return socket;
  } catch (cause) {
    const detail = describeError(cause);
    // The library's one word for all that a proxy may answer.
    const mend = /auth/i.test(detail) ? credentialsMend : proxyMend(proxy);
    throw new ProxyError(
      "cluster.unreachable",
      `proxy ${proxy.shown}, asked for ${target.host}:${target.port}: ${detail}`,
      {
        mend,
        cause,
      },
    );
  }
}

const credentialsMend =
  "Put user and password into the proxy's URL: http://user:password@proxy:3128 (percent-encoded).";
const proxyMend = ({ shown }: Proxy): string =>
  `Check --proxy or HTTPS_PROXY (${shown}), or exempt the address by NO_PROXY when no proxy is needed.`;

function refused(proxy: Proxy, place: string, status: number): ProxyError {
  const mend =
    status === 407
      ? credentialsMend
      : status === 403
        ? `Let the proxy allow CONNECT to ${place}.`
        : `Check that the proxy reaches ${place}.`;
  return new ProxyError("cluster.unreachable", `proxy ${proxy.shown} answered ${status} to CONNECT ${place}`, { mend });
}

function unreachable(proxy: Proxy, cause: unknown): ProxyError {
  return new ProxyError("cluster.unreachable", `proxy ${proxy.shown}: ${describeError(cause)}`, {
    mend: proxyMend(proxy),
    cause,
  });
}
