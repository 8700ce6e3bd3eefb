// The process that carries the nodes' database traffic: a forwarder for each node, changed and reset by its owner's orders
// (database-lines.ts). A process of its own, so that neither holds the other up: thousands of pieces a second here, the
// making of faults and of load there. Invariant: it ends with its owner, whatever that one came to.
import { FaultProxy } from "../harness/fault-proxy.ts";
import { orderSchema, type Answer, type Order } from "./forwarder-order.ts";

const proxies = new Map<number, FaultProxy>();
let databasePort = 0;

async function carryOut(order: Order): Promise<Pick<Answer, "port">> {
  switch (order.kind) {
    case "listen": {
      const target = (): { host: string; port: number } => ({ host: "127.0.0.1", port: databasePort });
      const proxy = await FaultProxy.start({ target, seed: order.seed });
      proxies.set(proxy.port, proxy);
      return { port: proxy.port };
    }
    case "change":
      proxyAt(order.port).change(order.plan);
      return {};
    case "lead":
      databasePort = order.to;
      for (const proxy of proxies.values()) proxy.reset();
      return {};
  }
}

function proxyAt(port: number): FaultProxy {
  const proxy = proxies.get(port);
  if (proxy === undefined) throw new Error(`no line at port ${port}`);
  return proxy;
}

process.on("message", (message) => {
  const order = orderSchema.parse(message);
  void carryOut(order).then(
    (done) => process.send?.({ no: order.no, ...done }),
    (cause: unknown) => process.send?.({ no: order.no, error: String(cause) }),
  );
});
process.once("disconnect", () => process.exit());
