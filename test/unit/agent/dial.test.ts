// Addresses that are none: the list of nodes comes from the network, so they end a dial and never the agent.
import { expect, test } from "vitest";
import type { DialEnd } from "../../../agent/dial.ts";
import { dial } from "../../../agent/dial.ts";

test.each(["10.0.0.256:10943", "host:99999", "a b:1", "[::zz]:1"])("%s is an address that failed", async (address) => {
  const ended = Promise.withResolvers<DialEnd>();
  let ends = 0;
  const socket = dial(
    { address, identity: { key: "", cert: "", nodesCas: [], servername: "node.test.internal" } },
    {
      onOpen: () => ended.reject(new Error("opened")),
      onFrame: () => undefined,
      onPong: () => undefined,
      onEnd: (end) => {
        ends += 1;
        ended.resolve(end);
      },
    },
  );
  // Not before the caller has the socket.
  expect(ends).toBe(0);
  expect(await ended.promise).toMatchObject({ kind: "failed", error: { code: "cluster.unreachable" } });
  socket.close(1000, "");
  socket.terminate();
  expect(ends).toBe(1);
});
