// The first message of a TLS handshake as a genuine client of this Node writes it: what half-open connections are made of.
import { Duplex } from "node:stream";
import { connect } from "node:tls";

export async function clientHello(): Promise<Buffer> {
  const first = Promise.withResolvers<Buffer>();
  const wire = new Duplex({
    read: () => undefined,
    write(bytes: Buffer, _encoding, done) {
      first.resolve(bytes);
      done();
    },
  });
  const socket = connect({ socket: wire, minVersion: "TLSv1.3" });
  socket.on("error", () => undefined);
  const hello = await first.promise;
  socket.destroy();
  return hello;
}
