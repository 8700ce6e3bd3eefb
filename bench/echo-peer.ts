// The other end of the bare hops: an HTTP echo with a stream of server-sent events, and an mTLS WebSocket echo. Writes the
// client's certificates into the folder given and prints its two ports.
import { writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { WebSocketServer } from "ws";
import { createAuthority } from "../certs/authority.ts";
import { issueAgentLeaf, issueNodeLeaf } from "../certs/leaf.ts";
import { anyNodeName } from "../certs/profile.ts";
import { generateKeyPair } from "../certs/public-key.ts";
import { agentListenerTls } from "../server/gateway/tls-options.ts";
import { systemClock as clock } from "../shared/clock.ts";
import { agentIdSchema, clusterIdSchema, createIdSource, newId, nodeIdSchema } from "../shared/ids.ts";
import { SystemRandom } from "../shared/random.ts";

const random = new SystemRandom();

const folder = process.argv[2] ?? ".";
const deps = { clock, random };
const ids = createIdSource(deps);
const cluster = newId(ids, clusterIdSchema);
const agents = createAuthority({ kind: "agents", cluster, ...deps });
const nodes = createAuthority({ kind: "nodes", cluster, ...deps });
const agentKey = generateKeyPair();
const nodeKey = generateKeyPair();
const terms = { cluster, lifetimeMs: 3_600_000 };
const agentId = newId(ids, agentIdSchema);
const nodeId = newId(ids, nodeIdSchema);
const agent = issueAgentLeaf({ ...terms, authority: agents, agentId, publicKeySpki: agentKey.publicKeySpki }, deps);
const node = issueNodeLeaf({ ...terms, authority: nodes, nodeId, publicKeySpki: nodeKey.publicKeySpki }, deps);
const put = (name: string, text: string): void => writeFileSync(join(folder, name), text, { mode: 0o600 });
put("nodes-ca.pem", nodes.certificatePem);
put("agent.pem", agent.certificatePem);
put("agent-key.pem", agentKey.privateKeyPem);
put("servername", anyNodeName(cluster));

const readers = new Set<ServerResponse>();
const http = createServer((request, response) => {
  if (request.url === "/events") {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    readers.add(response);
    response.once("close", () => readers.delete(response));
    return;
  }
  request.on("end", () => {
    for (const reader of readers) reader.write('event: log\nid: 0.0\ndata: {"bytes":"eAo="}\n\n');
    response.end('{"id":"x"}');
  });
  request.resume();
});
const identity = { key: nodeKey.privateKeyPem, cert: node.certificatePem, ca: [agents.certificatePem] };
const tls = createTlsServer(agentListenerTls(identity));
const sockets = new WebSocketServer({ server: tls, perMessageDeflate: false });
sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
const portOf = (address: AddressInfo | string | null): number =>
  typeof address === "object" && address !== null ? address.port : 0;
http.listen(0, "127.0.0.1", () => {
  tls.listen(0, "127.0.0.1", () => process.stdout.write(`${portOf(http.address())} ${portOf(tls.address())}\n`));
});
