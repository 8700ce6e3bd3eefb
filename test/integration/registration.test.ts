// Registration with the nodes of a real cluster: one row per address, repetition, restriction to some nodes, a load
// balancer that passes TCP through, a certificate that is trusted no more.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, createServer, type AddressInfo, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Agent } from "../../agent/agent.ts";
import { loadNodeList } from "../../agent/node-addresses.ts";
import { registerAgent, type RegisterDeps, type RegisterOptions } from "../../agent/register.ts";
import { main } from "../../cli/main.ts";
import { systemClock } from "../../shared/clock.ts";
import { FakeShell } from "../fakes/shell.ts";
import { eventually } from "../harness/eventually.ts";
import { startAgentOn } from "../harness/enrolled-agent.ts";
import { NodeGroup } from "../harness/node-group.ts";

let group: NodeGroup;
const balancers: Server[] = [];
let probes = 0;

beforeAll(async () => {
  group = await NodeGroup.start(["node-b"]);
  await listedBy(["node-a"], "node-b");
});
afterAll(async () => {
  await group[Symbol.asyncDispose]();
  for (const server of balancers) server.close();
});

const dataPathOf = (name: string): string => join(group.first.folder, "agents", name);
const newToken = async (terms = {}): Promise<string> => (await group.client.tokens.create(terms)).token;

async function register(name: string, options: Partial<RegisterOptions> = {}, deps: RegisterDeps = {}) {
  const token = options.token ?? (await newToken());
  return await registerAgent({ server: group.first.url, name, dataPath: dataPathOf(name), ...options, token }, deps);
}

async function started(name: string): Promise<Agent> {
  const agent = await startAgentOn(dataPathOf(name));
  group.agents.push(agent);
  return agent;
}

async function addressOf(name: string): Promise<string> {
  return (await group.client.nodes.show(name)).addresses[0] ?? "";
}

/** Waits until each of these nodes tells agents of the name or address: they read of a change within a second or so. */
async function listedBy(nodes: readonly string[], word: string): Promise<void> {
  probes += 1;
  const name = `probe-${probes}`;
  await register(name);
  for (const node of nodes) {
    await eventually(`${node} lists ${word}`, async () => {
      const seen = await register(name, { nodes: [node] });
      const listed = JSON.stringify(await loadNodeList(join(dataPathOf(name), "nodes.json")));
      return { done: seen.reached === "all" && listed.includes(`"${word}"`), state: listed };
    });
  }
}

/** Passes TCP through to one address, and to nothing else. */
async function loadBalancer(to: string): Promise<string> {
  const [host = "", port = ""] = to.split(":");
  const server = createServer((near) => {
    const far = connect({ host, port: Number(port) });
    near.pipe(far).pipe(near);
    near.on("error", () => far.destroy());
    far.on("error", () => near.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  balancers.push(server);
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** As a person does it; `--token` is made first. */
async function cli(...words: string[]) {
  const shell = new FakeShell();
  const given = ["agent", "register", "--server", group.first.url, "--token", await newToken()];
  const exitCode = await main([...given, ...words], shell);
  return { exitCode, out: shell.out.text, err: shell.err.text };
}

describe("registration", () => {
  it("reaches every node, and once more those that joined since, with identity, journal and token kept", async () => {
    const first = await register("steady");
    expect(first).toMatchObject({ enrolment: "new", reached: "all", keepsTo: null });
    expect(first.nodes.map(({ name }) => name)).toEqual(["node-a", "node-b"]);
    expect(first.nodes.every(({ roundTripMs }) => roundTripMs !== null && roundTripMs > 0)).toBe(true);
    expect(Math.abs(first.serverAheadMs ?? 9e9)).toBeLessThan(2_000);
    const agent = await startAgentOn(dataPathOf("steady"));
    await group.connectedTo("steady", ["node-a", "node-b"]);
    await agent.stop();
    const journal = await readFile(join(dataPathOf("steady"), "journal"));
    await group.add("node-c");
    await listedBy(["node-a", "node-b"], "node-c");
    const token = await newToken();
    const again = await register("steady", { token });
    expect(again).toMatchObject({ enrolment: "kept", agentId: first.agentId, reached: "all" });
    expect(again.nodes.map(({ name, ok }) => [name, ok])).toEqual(
      ["node-a", "node-b", "node-c"].map((name) => [name, true]),
    );
    expect(await readFile(join(dataPathOf("steady"), "journal"))).toEqual(journal);
    expect(await register("with-the-same-token", { token })).toMatchObject({ enrolment: "new" });
  });

  it("counts a node as reached when one of its addresses leads to it, and shows the other", async () => {
    await group.stop("node-c");
    const dead = "127.0.0.1:1";
    const live = await freePort();
    await group.add("node-c", {
      agentListen: { host: "127.0.0.1", port: live },
      advertise: [dead, `127.0.0.1:${live}`],
    });
    await listedBy(["node-a", "node-b"], `127.0.0.1:${live}`);
    const { reached, nodes } = await register("two-addresses", { nodes: ["node-c"] });
    expect(reached).toBe("all");
    expect(nodes).toMatchObject([
      { name: "node-c", address: dead, ok: false, finding: "refused" },
      { name: "node-c", address: `127.0.0.1:${live}`, ok: true, finding: "reached" },
    ]);
  });

  it("keeps to the nodes it was told, also when others join, until it is told otherwise", async () => {
    const address = await addressOf("node-a");
    const kept = await register("choosy", { nodes: [`https://${address}`, "node-b"] });
    expect(kept.keepsTo).toEqual({ nodes: ["node-a", "node-b"], addresses: [] });
    expect(kept.nodes.map(({ name }) => name)).toEqual(["node-a", "node-b"]);
    const agent = await started("choosy");
    await group.connectedTo("choosy", ["node-a", "node-b"]);
    await group.add("node-d");
    // An agent without a restriction shows that the list with node-d is out.
    await group.startAgent("control");
    expect(agent.status().nodes.map(({ node }) => node)).toEqual(["node-a", "node-b"]);
    await group.connectedTo("choosy", ["node-a", "node-b"]);
    // A chosen node is known by its id: it may move.
    await group.stop("node-b");
    await group.add("node-b");
    await group.connectedTo("choosy", ["node-a", "node-b"]);
    await agent.stop();
    expect(await register("choosy")).toMatchObject({ enrolment: "kept", keepsTo: null, reached: "all" });
    await started("choosy");
    await group.connectedTo("choosy", ["node-a", "node-b", "node-c", "node-d"]);
  });

  it("works through one load-balanced address, and dials no listed node then", async () => {
    const address = await loadBalancer(await addressOf("node-b"));
    const { keepsTo, nodes, reached } = await register("balanced", { nodes: [address] });
    expect({ keepsTo, reached }).toEqual({ keepsTo: { nodes: [], addresses: [address] }, reached: "all" });
    expect(nodes).toMatchObject([{ name: "node-b", address, ok: true }]);
    const agent = await started("balanced");
    await group.connectedTo("balanced", ["node-b"]);
    expect(agent.status().nodes.map(({ node }) => node)).toEqual([address]);
    const handle = await group.client.run({ on: "balanced", script: "true" });
    await group.reaches(handle.tasks[0]?.id ?? "", "succeeded");
  });

  it("refuses a node that is not listed and no address, naming those that are", async () => {
    await expect(register("mistaken", { nodes: ["node-z"] })).rejects.toMatchObject({
      code: "config.invalid",
      message: expect.stringMatching(/^--node node-z: the cluster's nodes are .*node-b \(127\.0\.0\.1:\d+\)/),
    });
    await expect(register("mistaken", { nodes: ["ftp://node-a:1"] })).rejects.toMatchObject({ code: "config.invalid" });
  });

  it("uses its token when the certificate is trusted no more, and keeps identity and journal", async () => {
    const first = await register("revoked");
    await group.client.agents.revoke("revoked");
    await expect(register("revoked")).rejects.toMatchObject({
      code: "agent.name-taken",
      mend: expect.stringContaining("tokens create --replace revoked"),
    });
    const again = await register("revoked", { token: await newToken({ replace: "revoked" }) });
    expect(again).toMatchObject({ enrolment: "renewed", agentId: first.agentId, reached: "all" });
    await started("revoked");
    await group.connectedTo(
      "revoked",
      group.nodes.map((node) => node.name),
    );
  });

  it("says by how much the clock is off when the server's certificate is not valid by it", async () => {
    const offMs = 3 * 24 * 3_600_000;
    const clock = { ...systemClock, wallMs: () => systemClock.wallMs() - offMs };
    await expect(register("late", {}, { clock })).rejects.toMatchObject({
      code: "enrolment.untrusted",
      message: expect.stringMatching(/this clock is (3 d|2 d 23 h) behind the server's$/),
      mend: expect.stringContaining("Set this machine's clock"),
    });
  });
});

describe("agent register", () => {
  it("exits 0 when every node was reached, with one row for each", async () => {
    const done = await cli("--all-nodes", "--name", "cli-all", "--data-dir", dataPathOf("cli-all"), "--node", "node-a");
    expect(done.exitCode).toBe(0);
    expect(done.out).toMatch(
      /^NODE +ADDRESS +REACHED +ROUND TRIP +REASON AND MEND\nnode-a +127\.0\.0\.1:\d+ +yes +[\d.]+ ms +-\n$/,
    );
    expect(done.err).toContain("it keeps to node-a");
    expect(done.err).toContain("every node was reached");
  });

  it("exits 69 when only some or none were reached, 0 for some when one is enough", async () => {
    const words = [
      "--data-dir",
      dataPathOf("cli-some"),
      "--name",
      "cli-some",
      "--node",
      "node-a",
      "--node",
      "127.0.0.1:2",
    ];
    const some = await cli("--all-nodes", ...words);
    expect(some.exitCode).toBe(69);
    expect(some.out).toMatch(/\n- +127\.0\.0\.1:2 +no +- +connection refused \(ECONNREFUSED\): .* Check that the node/);
    expect(some.err).toContain("reached only partly: 1 of 2 addresses");
    expect((await cli(...words)).exitCode).toBe(0);
    const none = await cli(...words.slice(0, 4), "--node", "127.0.0.1:2", "--json");
    expect(none.exitCode).toBe(69);
    expect(JSON.parse(none.out)).toMatchObject({
      enrolment: "kept",
      reached: "none",
      keepsTo: { nodes: [], addresses: ["127.0.0.1:2"] },
      nodes: [{ name: null, address: "127.0.0.1:2", ok: false, finding: "refused", roundTripMs: null }],
    });
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
