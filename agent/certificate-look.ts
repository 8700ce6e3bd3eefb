// A second look at an address whose TLS was refused: whose certificate stands there, or what speaks there instead of TLS.
// Invariant: nothing seen here is believed or acted on; no client certificate and no secret is shown, and the one thing
// sent, to what is not TLS at all, is an empty HTTP request. It only gives a person's report its words.
import type { X509Certificate } from "node:crypto";
import { connect as connectTcp } from "node:net";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Clock } from "../shared/clock.ts";
import { describeError, errnoOf } from "../shared/errors.ts";

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

type Deps = { readonly clock: Pick<Clock, "after"> };

/** Never throws; ends within `withinMs`. */
export async function lookAt(options: LookOptions, deps: Deps): Promise<Look> {
  const seen = await lookThroughTls(options, deps);
  return seen.kind === "plain" ? await lookWithoutTls(options, deps) : seen;
}

function lookThroughTls(options: LookOptions, deps: Deps): Promise<Look> {
  const { servername } = options;
  // An intercepting proxy may speak TLS 1.2 only, and is to be named all the same.
  const open = { ...endpoint(options.address), servername, rejectUnauthorized: false, minVersion: "TLSv1.2" } as const;
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

function lookWithoutTls(options: LookOptions, deps: Deps): Promise<Look> {
  const socket = connectTcp(endpoint(options.address));
  return watched(socket, { options, deps }, (resolve) => {
    socket.once("connect", () => socket.write("GET / HTTP/1.0\r\n\r\n"));
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

function endpoint(address: string): { readonly host: string; readonly port: number } {
  const at = address.lastIndexOf(":");
  return { host: address.slice(0, at).replaceAll(/[[\]]/g, ""), port: Number(address.slice(at + 1)) };
}
