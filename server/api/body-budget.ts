// How much of requests' bodies is in memory at once. A body is read whole before anything is done with it, and any key may send
// as many as there are connections. Invariant: what has come of bodies of more than 64 KiB never takes more than the budget
// together, nor more than half of it for one caller, until they are answered or their connection is gone; one that would pass
// it is answered 429 and no more of it is kept. What is sent to no route is not read either.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { AppError } from "../../shared/errors.ts";
import { unknownRoute } from "./problem-reply.ts";
import type { ApiInstance } from "./route.ts";

export interface BodyBudgetOptions {
  /** Default 64 MiB: eight of the largest. With copies and what is parsed of them a body takes about four times its size. */
  readonly totalBytes?: number;
}

/** Of all connections 256 MiB. */
const smallBytes = 64 * 1024;

/** Fastify reads no body of these, whatever their head declares. */
const bodiless: ReadonlySet<string> = new Set(["GET", "HEAD", "TRACE"]);

export class BodyBudget {
  readonly #totalBytes: number;
  readonly #heldBy = new Map<string, number>();
  #heldBytes = 0;

  constructor({ totalBytes = 64 * 1024 * 1024 }: BodyBudgetOptions = {}) {
    this.#totalBytes = totalBytes;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** What a caller is told who cannot have so many more now. */
  judge(caller: string, bytes: number): AppError | undefined {
    const own = this.#heldBy.get(caller) ?? 0;
    const most = this.#totalBytes / 2;
    if (own + bytes > most) return full(`this node reads ${own} bytes of this caller's requests already`, most);
    if (this.#heldBytes + bytes <= this.#totalBytes) return undefined;
    return full(`this node reads ${this.#heldBytes} bytes of requests already`, this.#totalBytes);
  }

  take(caller: string, bytes: number): void {
    const refusal = this.judge(caller, bytes);
    if (refusal !== undefined) throw refusal;
    this.#add(caller, bytes);
  }

  giveBack(caller: string, bytes: number): void {
    this.#add(caller, -bytes);
  }

  #add(caller: string, bytes: number): void {
    this.#heldBytes += bytes;
    const own = (this.#heldBy.get(caller) ?? 0) + bytes;
    if (own === 0) this.#heldBy.delete(caller);
    else this.#heldBy.set(caller, own);
  }
}

/** Goes after authorization: a stranger must not take what callers need. */
export function installBodyBudget(app: ApiInstance, budget: BodyBudget): void {
  const endings = new Endings();
  app.addHook("onRequest", async (request) => {
    if (request.is404) throw unknownRoute(request);
  });
  app.addHook("preParsing", (request, reply, _payload, done) => {
    const { raw, headers, principal, clientAddress } = request;
    const { bodyLimit } = request.routeOptions;
    const inPieces = headers["transfer-encoding"] !== undefined;
    const declaredBytes = inPieces ? 0 : Number(headers["content-length"] ?? 0);
    // What is larger than its route takes is refused unread, and of a closed connection nothing more comes.
    const unread = bodiless.has(request.method) || declaredBytes > bodyLimit || raw.socket.destroyed;
    const small = bodyLimit <= smallBytes || (!inPieces && declaredBytes <= smallBytes);
    if (unread || small) {
      done();
      return;
    }
    const caller = principal?.id ?? clientAddress;
    const refusal = budget.judge(caller, declaredBytes);
    if (refusal !== undefined) {
      done(refusal);
      return;
    }
    const hold = new Hold(budget, caller);
    endings.once(raw.socket, reply.raw, () => hold.release());
    const body = Readable.from(counted(raw, hold), { objectMode: false });
    // The parser listens no longer once it has refused a body, which may break off after that.
    body.on("error", () => undefined);
    done(null, body);
  });
}

/** One body's part of the budget: nothing up to 64 KiB, then all that has come of it. */
class Hold {
  readonly #budget: BodyBudget;
  readonly #caller: string;
  #cameBytes = 0;
  #heldBytes = 0;
  #over = false;

  constructor(budget: BodyBudget, caller: string) {
    this.#budget = budget;
    this.#caller = caller;
  }

  add(bytes: number): void {
    this.#cameBytes += bytes;
    if (this.#over || this.#cameBytes <= smallBytes) return;
    this.#budget.take(this.#caller, this.#cameBytes - this.#heldBytes);
    this.#heldBytes = this.#cameBytes;
  }

  release(): void {
    if (this.#over) return;
    this.#over = true;
    this.#budget.giveBack(this.#caller, this.#heldBytes);
  }
}

/** A response that waits for an earlier one has no socket yet, and need not hear that its connection closed: the socket is asked too. */
class Endings {
  readonly #of = new WeakMap<Socket, Set<() => void>>();

  /** Calls back once: when it is answered or its connection is gone. */
  once(socket: Socket, response: ServerResponse, over: () => void): void {
    const all = this.#of.get(socket) ?? this.#watch(socket);
    const end = (): void => {
      if (all.delete(end)) over();
    };
    all.add(end);
    response.once("close", end);
  }

  /** With one listener however many requests a connection carries. */
  #watch(socket: Socket): Set<() => void> {
    const all = new Set<() => void>();
    this.#of.set(socket, all);
    socket.once("close", () => {
      for (const end of all) end();
    });
    return all;
  }
}

async function* counted(raw: IncomingMessage, hold: Hold): AsyncGenerator<Buffer> {
  try {
    // Not ended with the loop: its connection has the refusal to carry.
    for await (const chunk of raw.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      hold.add(chunk.length);
      yield chunk;
    }
  } catch (cause) {
    hold.release();
    throw cause;
  } finally {
    // The rest goes nowhere; left unread it would stand before the connection's next request.
    raw.resume();
  }
}

function full(what: string, most: number): AppError {
  return new AppError("rate.limited", `${what}; at most ${most} at once`, { retryAfterSeconds: 1 });
}
