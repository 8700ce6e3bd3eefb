// The floor under a node that holds agents: a `ws` server with the agent listener's own TLS, HTTP and WebSocket options and
// nothing behind it: no positive list, no greeting, no session, no database. `bare-server.ts PLAN`; tells its port over IPC.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { WebSocketServer } from "ws";
import {
  agentListenerHttp,
  agentListenerTls,
  agentWebSocketServer,
  limitAgentListener,
} from "../server/gateway/tls-options.ts";
import { subprotocol } from "../shared/wire/version.ts";
import type { FleetPlan } from "./fleet-plan.ts";

const plan: FleetPlan = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"));
const { key, certificate: cert } = plan.bareNode;
const server = createServer({ ...agentListenerTls({ key, cert, ca: plan.agentsCaPems }), ...agentListenerHttp });
limitAgentListener(server);
const sockets = new WebSocketServer({ ...agentWebSocketServer, handleProtocols: () => subprotocol });
server.on("tlsClientError", (_cause, socket) => socket.destroy());
server.on("upgrade", (request, socket, head) => {
  socket.on("error", () => socket.destroy());
  sockets.handleUpgrade(request, socket, head, (peer) => {
    peer.on("error", () => undefined);
    peer.on("message", () => undefined);
  });
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  process.send?.({ port: typeof address === "object" && address !== null ? address.port : 0 });
});
process.on("disconnect", () => process.exit());
