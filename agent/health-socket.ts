// The running agent's local socket for monitoring: whoever connects gets one JSON line and the end. Takes no input.
// Invariant: nothing here stops work: a socket that cannot be made is a warning, and readers are few and short-lived.
import { once } from "node:events";
import { chmod, rename, rm } from "node:fs/promises";
import type { Server, Socket } from "node:net";
import { createServer } from "node:net";
import type { Clock } from "../shared/clock.ts";
import { describeError } from "../shared/errors.ts";
import type { Logger } from "../shared/logger.ts";
import type { Service } from "../shared/service.ts";
import type { HealthLine, SocketFolder } from "./health-line.ts";
import { healthSocketPath, openSocketFolder } from "./health-line.ts";

export interface HealthSocketDeps {
  readonly clock: Pick<Clock, "after">;
  readonly logger: Logger;
  readonly line: () => HealthLine;
}

export interface HealthSocketOptions {
  readonly dataPath: string;
}

/** Further ones are dropped at once. */
const readersAtOnce = 16;
/** Who does not read its line by then is cut off. */
const readerMs = 2_000;
const finalName = "health.sock";
const newName = "health.sock.new";

type State =
  | { readonly kind: "closed" }
  | { readonly kind: "open"; readonly server: Server; readonly folder: SocketFolder; readonly readers: Set<Socket> };

export class HealthSocket implements Service {
  readonly #deps: HealthSocketDeps;
  readonly #options: HealthSocketOptions;
  #state: State = { kind: "closed" };

  constructor(deps: HealthSocketDeps, options: HealthSocketOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Under the data lock: a socket file that is there belongs to a process that is gone, and is replaced. */
  async start(): Promise<void> {
    const { dataPath } = this.#options;
    try {
      const folder = openSocketFolder(dataPath, newName);
      try {
        this.#state = await this.#listen(folder);
      } catch (cause) {
        folder.close();
        throw cause;
      }
    } catch (cause) {
      const path = healthSocketPath(dataPath);
      this.#deps.logger.warn({ err: cause }, `${path}: no health line is served: ${describeError(cause)}`);
    }
  }

  async stop(): Promise<void> {
    if (this.#state.kind === "closed") return;
    const { server, folder, readers } = this.#state;
    this.#state = { kind: "closed" };
    await rm(folder.pathOf(finalName), { force: true });
    const closed = once(server, "close");
    server.close();
    for (const reader of readers) reader.destroy();
    await closed;
    folder.close();
  }

  async #listen(folder: SocketFolder): Promise<Extract<State, { kind: "open" }>> {
    const readers = new Set<Socket>();
    const server = createServer((socket) => this.#serve(socket, readers));
    const made = folder.pathOf(newName);
    // What a process left that died between bind and rename: bind does not replace.
    await rm(made, { force: true });
    server.listen(made);
    await once(server, "listening");
    try {
      await chmod(made, 0o600);
      await rename(made, folder.pathOf(finalName));
    } catch (cause) {
      server.close();
      throw cause;
    }
    return { kind: "open", server, folder, readers };
  }

  #serve(socket: Socket, readers: Set<Socket>): void {
    socket.on("error", () => socket.destroy());
    if (readers.size >= readersAtOnce) {
      socket.destroy();
      return;
    }
    readers.add(socket);
    const limit = this.#deps.clock.after(readerMs, () => socket.destroy());
    socket.on("close", () => {
      limit.cancel();
      readers.delete(socket);
    });
    // Nothing is asked here; what comes all the same is read away, so that the end of the other side is seen.
    socket.resume();
    socket.end(`${JSON.stringify(this.#deps.line())}\n`);
  }
}
