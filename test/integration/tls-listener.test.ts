// The agent listener's exact TLS and WebSocket options over real sockets: every regression that SECURITY 4.5 lists.
// An outcome is what the agent sees: `open` after the upgrade answer, or `refused` with the reason.
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:https";
import type { Server } from "node:https";
import type { Socket } from "node:net";
import { TLSSocket, connect as tlsConnect } from "node:tls";
import type { ConnectionOptions, TlsOptions } from "node:tls";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import type { ClientOptions } from "ws";
import { agentTlsOptions } from "../../agent/tls-options.ts";
import { issuerOf, readTrustAnchor } from "../../certs/trust.ts";
import { anyNodeName, nodeName } from "../../certs/profile.ts";
import {
  agentListenerHttp,
  agentListenerTls,
  agentWebSocketServer,
  forgetOfferedProtocols,
  isFreshMutualTls,
  limitAgentListener,
} from "../../server/gateway/tls-options.ts";
import { systemClock } from "../../shared/clock.ts";
import { subprotocol } from "../../shared/wire/version.ts";
import { createTestAuthorities } from "../harness/certs.ts";
import type { TestAuthorities, TestLeaf } from "../harness/certs.ts";

type Outcome = { readonly is: "open"; readonly socket: WebSocket } | { readonly is: "refused"; readonly why: string };
type Dial = {
  readonly leaf?: Pick<TestLeaf, "certificatePem" | "privateKeyPem">;
  readonly servername?: string;
  readonly overrides?: ClientOptions;
};

let cluster: TestAuthorities;
let node: ReturnType<TestAuthorities["nodeLeaf"]>;
let listener: { readonly server: Server; readonly port: number };
const closers: (() => Promise<void>)[] = [];

/** The listener as the gateway builds it: options, limits, the freshness and issuer check before the upgrade. */
async function listen(tls: TlsOptions): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer({ ...tls, ...agentListenerHttp });
  limitAgentListener(server);
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket.once("close", () => sockets.delete(socket)));
  });
  server.on("tlsClientError", (_cause, socket) => socket.destroy());
  const upgrades = new WebSocketServer(agentWebSocketServer);
  const anchors = [readTrustAnchor(cluster.agents)];
  server.on("upgrade", (request, socket, head) => {
    const certificate =
      socket instanceof TLSSocket && isFreshMutualTls(socket) ? socket.getPeerX509Certificate() : undefined;
    if (certificate === undefined || issuerOf(certificate, anchors, { clock: systemClock }) === undefined) {
      socket.destroy();
      return;
    }
    upgrades.handleUpgrade(request, socket, head, (peer) => {
      peer.on("error", () => undefined);
      peer.on("message", (data) => peer.send(data));
    });
  });
  server.listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  closers.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  });
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("the listener has no port");
  return { server, port: address.port };
}

async function dial(options: Dial = {}, port = listener.port): Promise<Outcome> {
  const leaf = options.leaf ?? cluster.agentLeaf();
  const tls = agentTlsOptions({
    key: leaf.privateKeyPem,
    cert: leaf.certificatePem,
    nodesCas: [cluster.nodes.certificatePem],
    servername: options.servername ?? anyNodeName(cluster.cluster),
  });
  const socket = new WebSocket(`wss://127.0.0.1:${port}/agent`, [subprotocol], { ...tls, ...options.overrides });
  return new Promise((resolve) => {
    socket.once("open", () => {
      closers.push(async () => socket.terminate());
      resolve({ is: "open", socket });
    });
    socket.once("error", (cause) =>
      resolve({ is: "refused", why: "code" in cause ? String(cause.code) : cause.message }),
    );
  });
}

/** A bare TLS client that asks for the upgrade: `open`, or how it was refused. Collects tickets on the way. */
async function rawDial(
  port: number,
  options: ConnectionOptions,
): Promise<{ outcome: string; reused: boolean; session: Buffer | undefined }> {
  const socket = tlsConnect({
    host: "127.0.0.1",
    port,
    servername: anyNodeName(cluster.cluster),
    ca: cluster.nodes.certificatePem,
    ...options,
  });
  let session: Buffer | undefined;
  let reused = false;
  socket.on("session", (ticket: Buffer) => (session = ticket));
  const outcome = await new Promise<string>((resolve) => {
    socket.once("error", (cause: NodeJS.ErrnoException) => resolve(cause.code ?? cause.message));
    socket.once("close", () => resolve("closed"));
    socket.once("data", (answer: Buffer) => resolve(answer.toString().split("\r\n", 1)[0] ?? ""));
    socket.once("secureConnect", () => {
      reused = socket.isSessionReused();
      socket.write(
        `GET /agent HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`,
      );
    });
  });
  socket.destroy();
  return { outcome, reused, session };
}

const accepted = "HTTP/1.1 101 Switching Protocols";
const tlsOf = (leaf: TestLeaf): { key: string; cert: string } => ({
  key: leaf.privateKeyPem,
  cert: leaf.certificatePem,
});
const listenerTls = (): TlsOptions => agentListenerTls({ ...tlsOf(node), ca: [cluster.agents.certificatePem] });

beforeEach(async () => {
  cluster = createTestAuthorities();
  node = cluster.nodeLeaf();
  listener = await listen(listenerTls());
});

afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

describe("an agent of the cluster", () => {
  test("is let in and gets its frames back, up to 1 MiB; one byte more ends the session with 1009", async () => {
    const outcome = await dial();
    if (outcome.is !== "open") throw new Error(outcome.why);
    outcome.socket.send(Buffer.alloc(1_048_576, 7));
    const [echo] = await once(outcome.socket, "message");
    expect(echo).toHaveLength(1_048_576);
    outcome.socket.send(Buffer.alloc(1_048_577));
    const [code] = await once(outcome.socket, "close");
    expect(code).toBe(1_009);
  });

  test("may call the node by the name that any node has and by the node's own", async () => {
    for (const servername of [anyNodeName(cluster.cluster), nodeName(cluster.cluster, node.nodeId)]) {
      expect(await dial({ servername })).toMatchObject({ is: "open" });
    }
  });

  test("shows the very certificate of its row to the node", async () => {
    const leaf = cluster.agentLeaf();
    const seen = once(listener.server, "secureConnection");
    await dial({ leaf });
    const [socket] = await seen;
    expect(socket).toBeInstanceOf(TLSSocket);
    expect(socket.getPeerX509Certificate()?.fingerprint256.replaceAll(":", "").toLowerCase()).toBe(leaf.thumbprint);
  });
});

describe("a socket after its handshake", () => {
  test("gives back Node's copy of the offered protocols, and still knows which was chosen", async () => {
    const seen = once(listener.server, "secureConnection");
    await rawDial(listener.port, { ...tlsOf(cluster.agentLeaf()), ALPNProtocols: ["http/1.1"] });
    const [socket] = await seen;
    expect(Reflect.get(socket, "_tlsOptions")).toMatchObject({ ALPNProtocols: expect.any(Uint8Array) });
    forgetOfferedProtocols(socket);
    expect(Reflect.get(socket, "_tlsOptions")).toMatchObject({ ALPNProtocols: undefined });
    expect(socket.alpnProtocol).toBe("http/1.1");
  });
});

describe("the listener refuses", () => {
  test("a client without a certificate", async () => {
    const { outcome } = await rawDial(listener.port, {});
    expect(outcome).toBe("ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED");
  });

  test("an agent of another cluster", async () => {
    const stranger = createTestAuthorities({ cluster: cluster.cluster }).agentLeaf();
    expect(await dial({ leaf: stranger })).toMatchObject({ is: "refused" });
  });

  test("a node's certificate, which is for servers only and of the other CA", async () => {
    expect(await dial({ leaf: cluster.nodeLeaf() })).toMatchObject({ is: "refused" });
  });

  test("a certificate for servers only even when its CA is trusted here", async () => {
    const both = await listen(
      agentListenerTls({ ...tlsOf(node), ca: [cluster.agents.certificatePem, cluster.nodes.certificatePem] }),
    );
    expect(await dial({ leaf: cluster.nodeLeaf() }, both.port)).toMatchObject({ is: "refused" });
    expect(await dial({}, both.port)).toMatchObject({ is: "open" });
  });

  test("an expired certificate", async () => {
    const past = { wallMs: () => Date.now() - 120_000 };
    expect(await dial({ leaf: cluster.agentLeaf({ clock: past, lifetimeMs: 60_000 }) })).toMatchObject({
      is: "refused",
    });
  });

  test("TLS 1.2", async () => {
    const { outcome } = await rawDial(listener.port, {
      ...tlsOf(cluster.agentLeaf()),
      minVersion: "TLSv1.2",
      maxVersion: "TLSv1.2",
    });
    expect(outcome).toBe("ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION");
  });

  test("a leaf of a retired CA once the context was changed, and lets in those of the new CA", async () => {
    const next = createTestAuthorities({ cluster: cluster.cluster });
    const retired = cluster.agentLeaf();
    expect(await dial({ leaf: retired })).toMatchObject({ is: "open" });
    listener.server.setSecureContext(agentListenerTls({ ...tlsOf(node), ca: [next.agents.certificatePem] }));
    expect(await dial({ leaf: retired })).toMatchObject({ is: "refused" });
    const { outcome } = await rawDial(listener.port, tlsOf(next.agentLeaf()));
    // TLS lets the new CA in; this test's own issuer check still knows the old one only, and closes.
    expect(outcome).toBe("closed");
  });

  test("a leaf of a retired CA by the issuer check alone, while TLS still trusts that CA", async () => {
    const earlier = createTestAuthorities({ cluster: cluster.cluster });
    const both = await listen(
      agentListenerTls({ ...tlsOf(node), ca: [cluster.agents.certificatePem, earlier.agents.certificatePem] }),
    );
    expect(await dial({ leaf: earlier.agentLeaf() }, both.port)).toMatchObject({ is: "refused" });
    expect(await dial({}, both.port)).toMatchObject({ is: "open" });
  });
});

describe("session resumption", () => {
  // The attack itself, against a listener that differs in the ticket option only: the refusals below mean something.
  test("would let a client in without a certificate if tickets were on", async () => {
    const { secureOptions: _off, ...withTickets } = listenerTls();
    const careless = createServer({ ...withTickets });
    careless.on("upgrade", (_request, socket) => socket.end(`${accepted}\r\n\r\n`));
    careless.listen({ host: "127.0.0.1", port: 0 });
    await once(careless, "listening");
    closers.push(async () => void careless.close());
    const address = careless.address();
    if (typeof address !== "object" || address === null) throw new Error("no port");
    const first = await rawDial(address.port, tlsOf(cluster.agentLeaf()));
    expect(first.session).toBeDefined();
    expect(await rawDial(address.port, { session: first.session })).toMatchObject({ outcome: accepted, reused: true });
  });

  test("with a kept session and no certificate is refused", async () => {
    const first = await rawDial(listener.port, tlsOf(cluster.agentLeaf()));
    expect(first).toMatchObject({ outcome: accepted, reused: false });
    const second = await rawDial(listener.port, { session: first.session });
    expect(second).toMatchObject({ reused: false, outcome: "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED" });
  });

  test("after the certificate has expired is refused", async () => {
    const leaf = cluster.agentLeaf({ lifetimeMs: 2_000 });
    const first = await rawDial(listener.port, tlsOf(leaf));
    expect(first.outcome).toBe(accepted);
    // OpenSSL reads the system's clock, so the second must really pass.
    const expired = new X509Certificate(leaf.certificatePem).validToDate.getTime() + 1_000;
    await expect.poll(() => Date.now() > expired, { timeout: 5_000, interval: 50 }).toBe(true);
    const second = await rawDial(listener.port, { ...tlsOf(leaf), session: first.session });
    expect(second.reused).toBe(false);
    expect(second.outcome).not.toBe(accepted);
  });

  test("stays refused after setSecureContext with the same options", async () => {
    listener.server.setSecureContext(listenerTls());
    const first = await rawDial(listener.port, tlsOf(cluster.agentLeaf()));
    expect(first.outcome).toBe(accepted);
    listener.server.setSecureContext(listenerTls());
    expect(await rawDial(listener.port, { session: first.session })).toMatchObject({
      reused: false,
      outcome: "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED",
    });
  });

  test("is never tried by the agent's own options: two dials are two full handshakes", async () => {
    const leaf = cluster.agentLeaf();
    for (const _round of [1, 2]) {
      const secured = once(listener.server, "secureConnection");
      await dial({ leaf });
      const [socket] = await secured;
      expect(socket.isSessionReused()).toBe(false);
    }
  });
});

describe("an agent refuses", () => {
  test("a server that shows an agent's certificate", async () => {
    const agent = cluster.agentLeaf();
    const impostor = await listen(agentListenerTls({ ...tlsOf(agent), ca: [cluster.agents.certificatePem] }));
    expect(await dial({}, impostor.port)).toMatchObject({ is: "refused" });
    // Not even when both CAs are trusted and the name is not looked at.
    const lax = { ca: [cluster.nodes.certificatePem, cluster.agents.certificatePem], checkServerIdentity: () => false };
    expect(await dial({ overrides: lax }, impostor.port)).toEqual({ is: "refused", why: "INVALID_PURPOSE" });
  });

  test("a node of another CA", async () => {
    const other = createTestAuthorities({ cluster: cluster.cluster });
    const impostor = await listen(
      agentListenerTls({ ...tlsOf(other.nodeLeaf()), ca: [cluster.agents.certificatePem] }),
    );
    expect(await dial({}, impostor.port)).toMatchObject({
      is: "refused",
      why: expect.stringMatching(/SELF_SIGNED|UNABLE_TO/),
    });
  });

  test("a node that is not the one it called, and a cluster that is not its own", async () => {
    const another = cluster.nodeLeaf();
    for (const servername of [
      nodeName(cluster.cluster, another.nodeId),
      anyNodeName(createTestAuthorities().cluster),
      "localhost",
    ]) {
      expect(await dial({ servername })).toEqual({ is: "refused", why: "ERR_TLS_CERT_ALTNAME_INVALID" });
    }
  });

  test("an expired node", async () => {
    const past = { wallMs: () => Date.now() - 120_000 };
    const stale = cluster.nodeLeaf({ clock: past, lifetimeMs: 60_000 });
    const late = await listen(agentListenerTls({ ...tlsOf(stale), ca: [cluster.agents.certificatePem] }));
    expect(await dial({}, late.port)).toEqual({ is: "refused", why: "CERT_HAS_EXPIRED" });
  });

  test("a server that speaks TLS 1.2 only", async () => {
    const old = await listen({ ...listenerTls(), minVersion: "TLSv1.2", maxVersion: "TLSv1.2" });
    expect(await dial({}, old.port)).toMatchObject({ is: "refused" });
  });
});
