// A TCP forwarder with a gate: shut, it resets what is open and refuses what comes; open, it forwards again.
import { connect, createServer, type Socket } from "node:net";
import { once } from "node:events";

export interface GateProxy extends AsyncDisposable {
  readonly port: number;
  shut(): void;
  open(): void;
}

export async function startGateProxy(target: { readonly host: string; readonly port: number }): Promise<GateProxy> {
  const sockets = new Set<Socket>();
  let gate: "open" | "shut" = "open";
  const server = createServer((near) => {
    if (gate === "shut") {
      near.resetAndDestroy();
      return;
    }
    const far = connect(target.port, target.host);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far);
    far.pipe(near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    port,
    shut() {
      gate = "shut";
      for (const socket of sockets) socket.resetAndDestroy();
    },
    open() {
      gate = "open";
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
