// Sends a request as it is, which fetch would not, and reads the answer. Of a stream only the head is waited for.
import { Agent, request } from "node:http";
import type { FuzzRequest } from "./generate.ts";

export interface FuzzAnswer {
  readonly status: number;
  readonly type: string;
  readonly requestId: string | undefined;
  readonly retryAfter: string | undefined;
  readonly text: string;
}

const agent = new Agent({ keepAlive: true, maxSockets: 8 });

export function endConnections(): void {
  agent.destroy();
}

/** `not sendable`: Node's own client refuses to write such a request, so nobody was asked. */
export function send(
  url: string,
  wanted: FuzzRequest,
  limitMs: number,
): Promise<FuzzAnswer | "not sendable" | "cut off"> {
  const { hostname, port } = new URL(url);
  const { method, target, headers, body } = wanted;
  return new Promise((resolve, reject) => {
    const limit = setTimeout(() => reject(new Error(`no answer within ${limitMs} ms`)), limitMs);
    const end = (outcome: FuzzAnswer | "not sendable" | "cut off"): void => {
      clearTimeout(limit);
      resolve(outcome);
    };
    try {
      const length: Record<string, string> =
        body === undefined || "transfer-encoding" in headers ? {} : { "content-length": String(body.length) };
      const asked = request(
        { hostname, port, method, path: target, headers: { ...headers, ...length }, agent },
        (response) => {
          const parts: Buffer[] = [];
          const answer = (): void =>
            end({
              status: response.statusCode ?? 0,
              type: (response.headers["content-type"] ?? "").split(";", 1)[0] ?? "",
              requestId: response.headers["x-request-id"]?.toString(),
              retryAfter: response.headers["retry-after"],
              text: Buffer.concat(parts).toString("utf8"),
            });
          if (response.headers["content-type"]?.startsWith("text/event-stream") === true) {
            answer();
            asked.destroy();
            return;
          }
          response.on("data", (part: Buffer) => parts.push(part));
          response.on("end", answer);
          response.on("error", () => end("cut off"));
        },
      );
      // A body over the limit is answered and cut off; which of the two the client sees first is chance.
      asked.on("error", () => end("cut off"));
      if (headers["expect"] !== undefined) asked.on("continue", () => asked.end(body));
      else asked.end(body);
    } catch {
      end("not sendable");
    }
  });
}
