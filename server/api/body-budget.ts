// How much of requests' bodies is in memory at once. A body is read whole before anything is done with it, and any key may send
// as many as there are connections. Invariant: bodies of more than 64 KiB that are read or worked on never take more than the
// budget together; the next one is answered 429 and not read. What is sent to no route is not read either.
import type { FastifyRequest } from "fastify";
import { AppError } from "../../shared/errors.ts";
import { unknownRoute } from "./problem-reply.ts";
import type { ApiInstance } from "./route.ts";

export interface BodyBudgetOptions {
  /** Default 64 MiB: eight of the largest. With copies and what is parsed of them a body takes about four times its size. */
  readonly totalBytes?: number;
}

/** Of all connections 256 MiB. */
const smallBytes = 64 * 1024;

/** Goes after authorization: a stranger must not take what callers need. */
export function installBodyBudget(app: ApiInstance, { totalBytes = 64 * 1024 * 1024 }: BodyBudgetOptions = {}): void {
  let heldBytes = 0;
  app.addHook("onRequest", async (request, reply) => {
    if (request.is404) throw unknownRoute(request);
    const bytes = bodyBytesOf(request);
    if (bytes <= smallBytes) return;
    if (heldBytes + bytes > totalBytes) {
      const message = `this node reads ${heldBytes} bytes of requests already; at most ${totalBytes} at once`;
      throw new AppError("rate.limited", message, { retryAfterSeconds: 1 });
    }
    heldBytes += bytes;
    reply.raw.once("close", () => {
      heldBytes -= bytes;
    });
  });
}

/** What it will be at most: one that is larger than its route takes is refused before it is read, and one in pieces at that size. */
function bodyBytesOf({ headers, routeOptions }: FastifyRequest): number {
  const mostBytes = routeOptions.bodyLimit ?? 0;
  if (headers["transfer-encoding"] !== undefined) return mostBytes;
  return Math.min(Number(headers["content-length"] ?? 0), mostBytes);
}
