// Why a node was not reached, in the words of registration: each by a real far side that does just that.
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer as createTcpServer, type AddressInfo, type Server } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { afterEach, expect, test } from "vitest";
import { dial, type Dial } from "../../agent/dial.ts";
import type { Identity } from "../../agent/identity.ts";
import { surveyNodes, type NodeRow } from "../../agent/node-survey.ts";
import { agentListenerTls } from "../../server/gateway/tls-options.ts";
import { systemClock } from "../../shared/clock.ts";
import { nodeListSchema } from "../../shared/wire/nodes.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import { FakeNode, FakeStore } from "../fakes/node-server.ts";
import { createTestAuthorities, type TestAuthorities, type TestLeaf } from "../harness/certs.ts";
import { interceptor } from "../harness/interceptor.ts";

const hourMs = 3_600_000;
const cluster = createTestAuthorities();
const other = createTestAuthorities();
const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

const listening = async (server: Server): Promise<string> => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const sockets = new Set<{ destroy(): void }>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
  });
  ends.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
};

const nodeAuthority = (of: TestAuthorities): string => of.nodes.certificatePem;

/** A TLS server that shows this leaf and says nothing. */
const showing = (leaf: Pick<TestLeaf, "privateKeyPem" | "certificatePem">): Promise<string> => {
  const ca = [cluster.agents.certificatePem];
  const server = createTlsServer({ ...agentListenerTls({ key: leaf.privateKeyPem, cert: leaf.certificatePem, ca }) });
  server.on("tlsClientError", () => undefined);
  return listening(server);
};

interface Look {
  readonly node?: ReturnType<TestAuthorities["nodeLeaf"]>;
  readonly agentLeaf?: ReturnType<TestAuthorities["agentLeaf"]>;
  readonly serverAheadMs?: number;
  readonly dialMs?: number;
  readonly dial?: Dial;
}

/** The one row of a survey of one address, listed as this cluster's node. */
async function rowOf(address: string, look: Look = {}): Promise<NodeRow> {
  const leaf = look.agentLeaf ?? cluster.agentLeaf({ lifetimeMs: hourMs });
  const identity: Identity = {
    cluster: cluster.cluster,
    agentId: leaf.agentId,
    name: "web-01",
    labels: {},
    agentsCa: [cluster.agents.certificatePem],
    nodesCa: [nodeAuthority(cluster)],
    seeds: [],
    key: leaf.privateKeyPem,
    certificate: leaf.certificatePem,
  };
  const { nodeId } = look.node ?? cluster.nodeLeaf();
  const list = nodeListSchema.parse({
    version: 1,
    want: 0,
    nodes: [{ id: nodeId, name: "node-a", addresses: [address] }],
  });
  const { rows, reached } = await surveyNodes(
    { dial: look.dial ?? dial, clock: systemClock, serverAheadMs: look.serverAheadMs },
    { identity, list, listFrom: "fresh", named: [], seeds: [], dialMs: look.dialMs ?? 10_000 },
  );
  const [row] = rows;
  if (row === undefined || rows.length !== 1) throw new Error(`${rows.length} rows`);
  expect(reached).toBe(row.ok ? "all" : "none");
  expect(row.mend === "").toBe(row.ok);
  return row;
}

/** A fake node that greets, refuses or is busy, as its options say. */
async function fakeNode(options: { refuseWith?: number; busy?: { times: number; retryAfterSeconds: number } }) {
  const node = new FakeNode({ authorities: cluster, store: new FakeStore(), name: "node-a", ...options });
  await node.start();
  ends.push(() => node.stop());
  return node;
}

const listedAs = (node: FakeNode): Look => ({ node: { ...cluster.nodeLeaf(), nodeId: node.id } });

test("a node that greets is reached, and the round trip of TCP, TLS and greeting is measured", async () => {
  const node = await fakeNode({});
  const row = await rowOf(node.address, listedAs(node));
  expect(row).toMatchObject({ ok: true, finding: "reached", name: "node-a", address: node.address, reason: "" });
  expect(row.roundTripMs).toBeGreaterThan(0);
  expect(node.hellos.map(({ probe }) => probe)).toEqual([true]);
});

test("nothing listens there", async () => {
  const server = createTcpServer();
  const address = await listening(server);
  await ends.pop()?.();
  const row = await rowOf(address);
  expect(row).toMatchObject({ ok: false, finding: "refused", roundTripMs: null, name: "node-a" });
  expect(row.reason).toBe("connection refused (ECONNREFUSED): nothing listens there");
  expect(row.mend).toContain(address);
});

test("a black hole: TCP is taken and nothing ever answers", async () => {
  const address = await listening(createTcpServer(() => undefined));
  const row = await rowOf(address, { dialMs: 300 });
  expect(row).toMatchObject({
    finding: "timed-out",
    reason: "timed out: TCP connected, but TLS was not answered within 300 ms",
  });
});

test("a node that proves itself and never greets", async () => {
  const leaf = cluster.nodeLeaf({ lifetimeMs: hourMs });
  const row = await rowOf(await showing(leaf), { node: leaf, dialMs: 700 });
  expect(row).toMatchObject({
    finding: "timed-out",
    reason: "timed out: the node proved itself but did not greet within 700 ms",
  });
});

test("TCP that is never answered is told from TLS that is not", async () => {
  // Loopback swallows no packets: the dial is played by one that never comes further than its start.
  const nothing = (): void => undefined;
  const ways = { send: nothing, ping: nothing, close: nothing, terminate: nothing, cork: nothing, uncork: nothing };
  const row = await rowOf("127.0.0.1:9", { dialMs: 50, dial: () => ({ bufferedAmount: 0, ...ways }) });
  expect(row).toMatchObject({ finding: "timed-out", reason: "timed out: TCP was not answered within 50 ms" });
  expect(row.mend).toContain("Open outbound TCP from this machine to 127.0.0.1:9");
});

test("a name that DNS does not know", async () => {
  const row = await rowOf("no-such-node.invalid:10943");
  expect(row.finding).toBe("name-unknown");
  expect(row.reason).toMatch(/^no-such-node\.invalid: the name was not found \(E(NOTFOUND|AI_AGAIN)\)$/);
});

test("a proxy that intercepts TLS is named by the issuer of what it shows", async () => {
  const row = await rowOf(await showing(await interceptor()));
  expect(row).toMatchObject({
    finding: "intercepted",
    reason: 'TLS intercepted by "Corp Inspection CA": it shows a certificate for "node.internal"',
  });
  expect(row.mend).toContain("TLS inspection");
});

test("a proxy that speaks TLS 1.2 only is named all the same", async () => {
  const { privateKeyPem: key, certificatePem: cert } = await interceptor();
  const server = createTlsServer({ key, cert, maxVersion: "TLSv1.2" });
  server.on("tlsClientError", () => undefined);
  const row = await rowOf(await listening(server));
  expect(row).toMatchObject({ finding: "intercepted", reason: expect.stringContaining('by "Corp Inspection CA"') });
});

test("a node of another Holdfast cluster is no interception", async () => {
  const leaf = other.nodeLeaf({ lifetimeMs: hourMs });
  expect(await rowOf(await showing(leaf))).toMatchObject({
    finding: "other-cluster",
    reason: `another Holdfast cluster's node answers there: cluster ${other.cluster}, node ${leaf.nodeId}`,
  });
});

test("a node that names this cluster under a CA the agent does not know is not believed", async () => {
  const forged = createTestAuthorities({ cluster: cluster.cluster }).nodeLeaf({ lifetimeMs: hourMs });
  expect(await rowOf(await showing(forged))).toMatchObject({ finding: "untrusted" });
});

test("another node of the same cluster at this node's address", async () => {
  const leaf = cluster.nodeLeaf({ lifetimeMs: hourMs });
  expect(await rowOf(await showing(leaf))).toMatchObject({
    finding: "other-node",
    reason: `another node of this cluster answers there: node ${leaf.nodeId}`,
  });
});

const at = (offMs: number) => ({ wallMs: () => systemClock.wallMs() + offMs });

test("an expired certificate is the node's fault when the server's clock agrees with this one", async () => {
  const leaf = cluster.nodeLeaf({ clock: at(-50 * hourMs), lifetimeMs: hourMs });
  const row = await rowOf(await showing(leaf), { node: leaf, serverAheadMs: 200 });
  expect(row.finding).toBe("node-expired");
  expect(row.reason).toMatch(/^the node's certificate ended 2 d 1 h ago \(.*Z\); this machine's clock agrees/);
});

test("an expired certificate is this clock's fault when the server's clock lies within its life", async () => {
  const leaf = cluster.nodeLeaf({ clock: at(-50 * hourMs), lifetimeMs: hourMs });
  const row = await rowOf(await showing(leaf), { node: leaf, serverAheadMs: -49.5 * hourMs });
  expect(row.finding).toBe("clock");
  expect(row.reason).toMatch(/^clock off: this machine's clock says .*Z, 2 d 1 h ahead of the server's; the node's/);
});

test("a certificate that is not valid yet says by how much at least", async () => {
  const leaf = cluster.nodeLeaf({ clock: at(6 * hourMs), lifetimeMs: hourMs });
  const row = await rowOf(await showing(leaf), { node: leaf });
  expect(row.finding).toBe("clock");
  expect(row.reason).toMatch(/at least (5 h|4 h 59 min) behind; the node's certificate is valid/);
  const agreed = await rowOf(await showing(leaf), { node: leaf, serverAheadMs: 0 });
  expect(agreed).toMatchObject({ finding: "clock", mend: "Set the node's clock (NTP) and restart it." });
});

test("plain HTTP on the port, and what is no TLS at all, are quoted", async () => {
  const http = createHttpServer((_request, response) => response.end("hello"));
  expect(await rowOf(await listening(http))).toMatchObject({
    finding: "no-tls",
    reason: 'plain HTTP on this port, no TLS: it says "HTTP/1.1 200 OK"',
  });
  const ssh = createTcpServer((socket) => socket.write("SSH-2.0-Open\u001b[31mSSH\r\n"));
  expect(await rowOf(await listening(ssh))).toMatchObject({
    finding: "no-tls",
    reason: 'no TLS on this port: it says "SSH-2.0-Open?[31mSSH"',
  });
});

test("a connection that is cut before TLS", async () => {
  const address = await listening(createTcpServer((socket) => socket.destroy()));
  const row = await rowOf(address);
  expect(row.finding).toBe("cut");
  expect(row.reason).toMatch(/^the connection was cut before TLS was done/);
});

test("a node that drains or is full says when to come again", async () => {
  const node = await fakeNode({ busy: { times: 9, retryAfterSeconds: 30 } });
  expect(await rowOf(node.address, listedAs(node))).toMatchObject({
    finding: "not-now",
    reason: "the node answered 503 Service Unavailable (try again after 30 s)",
  });
});

test.each([
  [closeCode.refused, "agent-refused"],
  [closeCode.quarantined, "agent-refused"],
  [closeCode.unsupported, "protocol"],
  [closeCode.unavailable, "not-now"],
])("a greeting that ends with %i is %s", async (refuseWith, finding) => {
  const node = await fakeNode({ refuseWith });
  const row = await rowOf(node.address, listedAs(node));
  expect(row).toMatchObject({ finding, reason: `closed before the greeting: ${refuseWith} refused by the fake` });
});

test("this agent's own expired certificate is told from a refused connection", async () => {
  const agentLeaf = cluster.agentLeaf({ clock: at(-50 * hourMs), lifetimeMs: hourMs });
  const node = await fakeNode({});
  const row = await rowOf(node.address, { ...listedAs(node), agentLeaf });
  expect(row).toMatchObject({ finding: "agent-expired", reason: "this agent's certificate expired 2 d 1 h ago" });
  await node.stop();
  expect(await rowOf(node.address, { ...listedAs(node), agentLeaf })).toMatchObject({ finding: "refused" });
  await node.start();
});
