// Who holds a connection to the API. A caller that is being answered keeps its own; one that has yet to say what it wants, or
// has said it too slowly, makes room when there are too many: the oldest of the address that has most of these.
// Invariant: never more than `most` are open, and none that is being answered is ended here.
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";

export interface ApiConnectionsDeps {
  readonly onClosed: (reason: "too many" | "made room") => void;
}

export interface ApiConnectionsOptions {
  /** Connections at once, 1,000 followed streams among them. Default 4,000, about 16 KiB each. */
  readonly most?: number;
}

export const apiConnectionsDefaults: Required<ApiConnectionsOptions> = { most: 4_000 };

interface Connection {
  readonly address: string;
  /** Requests that are being answered. */
  readonly answering: Set<IncomingMessage>;
}

export class ApiConnections {
  readonly #deps: ApiConnectionsDeps;
  readonly #most: number;
  readonly #open = new Map<Socket, Connection>();
  /** Those with nothing to answer, by address, the one that has been so longest first. */
  readonly #silent = new Map<string, Set<Socket>>();

  constructor(deps: ApiConnectionsDeps, { most }: ApiConnectionsOptions = {}) {
    this.#deps = deps;
    this.#most = most ?? apiConnectionsDefaults.most;
  }

  get size(): number {
    return this.#open.size;
  }

  watch(server: Server): void {
    server.on("connection", (socket: Socket) => this.#arrive(socket));
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      response.once("close", () => this.#answered(request));
      // A body may be as slow as a head: until it is there, or its sender is known, nothing is being answered.
      // What was answered before all of it came is not answered any more when the rest comes.
      if (hasBody(request)) request.once("end", () => void (response.closed || this.answer(request)));
      else this.answer(request);
    });
  }

  /** Its caller is known, or all of it has come. */
  answer(request: IncomingMessage): void {
    const connection = this.#open.get(request.socket);
    if (connection === undefined) return;
    connection.answering.add(request);
    this.#leaveSilent(request.socket, connection);
  }

  #answered(request: IncomingMessage): void {
    const connection = this.#open.get(request.socket);
    if (connection?.answering.delete(request) === true && connection.answering.size === 0)
      this.#enterSilent(request.socket, connection);
  }

  #arrive(socket: Socket): void {
    if (this.#open.size >= this.#most && !this.#makeRoom()) {
      this.#deps.onClosed("too many");
      socket.destroy();
      return;
    }
    const connection = { address: socket.remoteAddress ?? "", answering: new Set<IncomingMessage>() };
    this.#open.set(socket, connection);
    this.#enterSilent(socket, connection);
    socket.once("close", () => this.#forget(socket));
  }

  #makeRoom(): boolean {
    let crowd: Set<Socket> | undefined;
    for (const silent of this.#silent.values()) if (silent.size > (crowd?.size ?? 0)) crowd = silent;
    const [oldest] = crowd ?? [];
    if (oldest === undefined) return false;
    this.#deps.onClosed("made room");
    this.#forget(oldest);
    oldest.destroy();
    return true;
  }

  #forget(socket: Socket): void {
    const connection = this.#open.get(socket);
    if (connection === undefined) return;
    this.#open.delete(socket);
    this.#leaveSilent(socket, connection);
  }

  #enterSilent(socket: Socket, { address }: Connection): void {
    const there = this.#silent.get(address);
    if (there === undefined) this.#silent.set(address, new Set([socket]));
    else there.add(socket);
  }

  #leaveSilent(socket: Socket, { address }: Connection): void {
    const there = this.#silent.get(address);
    if (there?.delete(socket) === true && there.size === 0) this.#silent.delete(address);
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}
