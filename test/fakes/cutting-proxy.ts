// A TCP forwarder that ends a connection after as many bytes of answer as its owner says: wherever that falls, in a header,
// in the middle of an event or of a character.
import { connect, createServer, type Socket } from "node:net";
import { once } from "node:events";

export interface CuttingProxy extends AsyncDisposable {
  readonly url: string;
  /** Connections cut so far. */
  readonly cuts: number;
}

/** `nextCut` is asked once per connection; undefined lets it live. */
export async function startCuttingProxy(targetPort: number, nextCut: () => number | undefined): Promise<CuttingProxy> {
  const sockets = new Set<Socket>();
  let cuts = 0;
  const server = createServer((near) => {
    const far = connect(targetPort, "127.0.0.1");
    let left = nextCut();
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far);
    far.on("data", (bytes: Buffer) => {
      if (left === undefined) {
        near.write(bytes);
        return;
      }
      const passed = bytes.subarray(0, left);
      left -= passed.length;
      near.write(passed, () => {
        if (left !== 0) return;
        cuts += 1;
        near.destroy();
      });
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    get cuts() {
      return cuts;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
