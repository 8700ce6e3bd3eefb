// Fault 17 on the real listeners: a connection that cannot be taken is an error of the server long after its start. libuv
// hides EMFILE while it keeps a descriptor in reserve, so the error is raised on the very server that the edge made.
import { channel } from "node:diagnostics_channel";
import { once } from "node:events";
import { connect, Server } from "node:net";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { ApiServer, type ApiServerDeps } from "../../server/api/http-server.ts";
import { AgentListener } from "../../server/gateway/listener.ts";
import { Background } from "../../shared/background.ts";
import { silentLogger, type Logger } from "../../shared/logger.ts";
import type { Service } from "../../shared/service.ts";
import { noDownloads, FakeBackend, ids } from "../fakes/api-backend.ts";
import { FakeClock } from "../fakes/clock.ts";
import { createTestAuthorities } from "../harness/certs.ts";

type Tools = Pick<ApiServerDeps, "logger" | "clock">;

const edges: readonly (readonly [string, (tools: Tools) => Service])[] = [
  ["the agent listener", agentListener],
  ["the API", apiServer],
];

function agentListener({ logger, clock }: Tools): Service {
  const cluster = createTestAuthorities();
  const { privateKeyPem, certificatePem } = cluster.nodeLeaf();
  return new AgentListener(
    {
      logger,
      clock,
      background: new Background({ logger }),
      anchors: () => [],
      isOpen: () => true,
      findAdmission: () => Promise.resolve(undefined),
      openSession: () => {
        throw new Error("nobody is let in here");
      },
      onRefused: () => undefined,
    },
    {
      host: "127.0.0.1",
      port: 0,
      identity: { key: privateKeyPem, cert: certificatePem, ca: [cluster.agents.certificatePem] },
    },
  );
}

function apiServer({ logger, clock }: Tools): Service {
  const backend = new FakeBackend();
  return new ApiServer(
    { backend, enrolment: backend, downloads: noDownloads, ids, logger, clock, registry: new Registry() },
    { host: "127.0.0.1", port: 0, trustedProxies: [], version: "0.0.0" },
  );
}

/** Starts it and finds the server that listens, which no edge shows. */
async function startedServer(edge: Service): Promise<Server> {
  const servers: Server[] = [];
  const starting = channel("tracing:net.server.listen:asyncStart");
  const seen = (message: unknown): void => {
    if (typeof message === "object" && message !== null && "server" in message && message.server instanceof Server)
      servers.push(message.server);
  };
  starting.subscribe(seen);
  await edge.start();
  starting.unsubscribe(seen);
  const [server] = servers;
  if (server === undefined) throw new Error("nothing was seen to listen");
  return server;
}

test.for(edges)("%s outlives connections it cannot take, and says so once in 10 s", async ([, create]) => {
  const alarms: object[] = [];
  const logger: Logger = { ...silentLogger, error: (fields) => void alarms.push(fields) };
  const clock = new FakeClock();
  const edge = create({ logger, clock });
  const server = await startedServer(edge);
  const fail = (): unknown => server.emit("error", Object.assign(new Error("accept EMFILE"), { code: "EMFILE" }));
  for (let nth = 0; nth < 3; nth += 1) fail();
  expect(alarms).toEqual([{ code: "EMFILE", failures: 1 }]);
  clock.advance(10_000);
  fail();
  expect(alarms).toEqual([
    { code: "EMFILE", failures: 1 },
    { code: "EMFILE", failures: 3 },
  ]);
  const address = server.address();
  const visitor = connect(typeof address === "object" ? (address?.port ?? 0) : 0, "127.0.0.1");
  await once(visitor, "connect");
  visitor.destroy();
  await edge.stop();
});
