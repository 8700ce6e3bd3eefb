// What an agent's dial makes of a node's refusal with words, over a real TLS socket.
import { once } from "node:events";
import { createServer } from "node:https";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dial, type DialEnd } from "../../agent/dial.ts";
import { anyNodeName } from "../../certs/profile.ts";
import { agentListenerTls } from "../../server/gateway/tls-options.ts";
import { createTestAuthorities } from "../harness/certs.ts";

const cluster = createTestAuthorities();
const node = cluster.nodeLeaf();
const agent = cluster.agentLeaf();
let retryAfter = "";
const server = createServer(
  agentListenerTls({ key: node.privateKeyPem, cert: node.certificatePem, ca: [cluster.agents.certificatePem] }),
);
server.on("upgrade", (_request, socket) => {
  socket.end(`HTTP/1.1 503 later\r\nConnection: close\r\nRetry-After: ${retryAfter}\r\nContent-Length: 0\r\n\r\n`);
});

beforeAll(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterAll(async () => {
  server.close();
  await once(server, "close");
});

function rejection(): Promise<DialEnd> {
  const address = server.address();
  const port = typeof address === "object" ? (address?.port ?? 0) : 0;
  const identity = {
    key: agent.privateKeyPem,
    cert: agent.certificatePem,
    nodesCas: [cluster.nodes.certificatePem],
    servername: anyNodeName(cluster.cluster),
  };
  return new Promise((resolve) => {
    const nothing = (): void => undefined;
    dial(
      { address: `127.0.0.1:${port}`, identity },
      { onOpen: nothing, onFrame: nothing, onPong: nothing, onEnd: resolve },
    );
  });
}

test.each([
  ["30", 30_000],
  // 31 years, as a slip in a node's or a proxy's configuration gives.
  ["1000000000", 600_000],
  ["Infinity", 600_000],
  ["-5", 0],
  ["Wed, 21 Oct 2026 07:28:00 GMT", 0],
])("Retry-After %s keeps the agent away for %i ms at least", async (header, retryAfterMs) => {
  retryAfter = header;
  expect(await rejection()).toMatchObject({ kind: "rejected", status: 503, retryAfterMs });
});
