// `fetch` as enrolment needs it, through a proxy where the rules name one: TLS with the server runs inside the proxy's way,
// a plain request is handed to an HTTP proxy as a whole. Redirects are errors.
import type { IncomingMessage, RequestOptions } from "node:http";
import { Readable } from "node:stream";
import { connect as connectTls } from "node:tls";
import { requestHttp, requestHttps } from "./http-request.ts";
import type { HostAndPort, Proxy, ProxyRules } from "./proxy.ts";
import { authorization, openTunnel } from "./proxy-tunnel.ts";

const tunnelMs = 15_000;

/** Where no proxy is to be gone through, the platform's own. */
export function createFetch(rules: ProxyRules): typeof fetch {
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const target = { host: url.hostname.replaceAll(/[[\]]/g, ""), port: portOf(url) };
    const proxy = rules.proxyFor(target);
    return proxy === undefined ? fetch(input, init) : send(url, init ?? {}, { proxy, target });
  };
}

function portOf({ port, protocol }: URL): number {
  return port === "" ? (protocol === "https:" ? 443 : 80) : Number(port);
}

async function send(
  url: URL,
  init: RequestInit,
  way: { readonly proxy: Proxy; readonly target: HostAndPort },
): Promise<Response> {
  const { proxy, target } = way;
  const headers = Object.fromEntries(new Headers(init.headers));
  const common = { method: init.method ?? "GET", ...(init.signal ? { signal: init.signal } : {}) };
  const isHttp = proxy.kind === "http:" || proxy.kind === "https:";
  if (url.protocol === "http:" && isHttp) {
    const whole = { ...common, agent: false, host: proxy.host, port: proxy.port, path: url.href };
    return answer({ ...whole, headers: { ...headers, host: url.host, ...authorization(proxy) } }, init, proxy.kind);
  }
  const raw = await openTunnel(proxy, target, { timeoutMs: tunnelMs });
  const socket = url.protocol === "https:" ? connectTls({ socket: raw, servername: target.host }) : raw;
  const options = { ...common, path: `${url.pathname}${url.search}`, headers: { ...headers, host: url.host } };
  // No agent: it would make a connection of its own.
  return answer({ ...options, createConnection: () => socket }, init, "http:");
}

function answer(options: RequestOptions, init: RequestInit, kind: "http:" | "https:"): Promise<Response> {
  return new Promise((resolve, reject) => {
    const request = (kind === "https:" ? requestHttps : requestHttp)(options);
    request.once("response", (incoming) => {
      const status = incoming.statusCode ?? 0;
      if (status >= 300 && status < 400) {
        incoming.destroy();
        reject(new TypeError(`redirected to ${incoming.headers.location ?? "nowhere"}, which is not followed`));
      } else resolve(responseOf(incoming, status));
    });
    request.on("error", reject);
    request.end(typeof init.body === "string" ? init.body : undefined);
  });
}

function responseOf(incoming: IncomingMessage, status: number): Response {
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers))
    for (const one of [value].flat()) if (one !== undefined) headers.append(name, one);
  const hasBody = status !== 204 && status !== 304;
  return new Response(hasBody ? (Readable.toWeb(incoming) as ReadableStream<Uint8Array>) : null, { status, headers });
}
