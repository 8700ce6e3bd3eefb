// deploy/nginx and deploy/haproxy, started for real before three nodes: what each claims of itself is shown here.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer, request, type IncomingMessage, type RequestOptions } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { registerAgent } from "../../agent/register.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import { readinessSchema } from "../../shared/api/health.ts";
import { startBalancer, type BalancedNode, type BalancerPlan } from "../harness/balancer.ts";
import { freePort, hasProgram, type Daemon } from "../harness/daemon.ts";
import { startAgentOn } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import { NodeGroup } from "../harness/node-group.ts";
import { queryRows } from "../harness/query.ts";

const names = ["node-a", "node-b", "node-c"];
/** Above the agent's ping of 10 s, as the files' 60 s are, and short enough to be outlived here twice. */
const idleSeconds = 12;
const mebibyte = 1_048_576;
const gibibyte = 1_024 * mebibyte;
const programs = ["nginx", "haproxy"] as const;

for (const program of programs) {
  const isMissing = !hasProgram(program);
  if (isMissing) process.stderr.write(`\n${program} is not installed: sh scripts/install-test-tools.sh\n`);
  describe.skipIf(isMissing && process.env["CI"] !== "true")(`${program} before three nodes`, () => {
    let group: NodeGroup;
    let balancer: Daemon;
    let url: string;
    let client: Holdfast;

    beforeAll(async () => {
      if (isMissing) throw new Error(`${program} is missing: sh scripts/install-test-tools.sh`);
      const [apiPort, agentPort] = [await freePort(), await freePort()];
      // One address for all: agents tell the nodes apart by name alone.
      group = await NodeGroup.start(["node-b", "node-c"], {
        advertise: [`127.0.0.1:${agentPort}`],
        trustedProxies: ["127.0.0.1"],
      });
      const nodes = group.nodes.map(({ node }) => ({
        id: node.id,
        apiPort: node.apiAddress.port,
        agentPort: node.agentPort,
      }));
      balancer = await startBalancer(await plan(program, nodes, { apiPort, agentPort }));
      url = `http://127.0.0.1:${apiPort}`;
      client = new Holdfast({ url, apiKey: group.first.apiKey, retryForMs: 0 });
      const dataPath = join(group.first.folder, "agents", "web-1");
      const { token } = await client.tokens.create({});
      await registerAgent({ server: url, token, name: "web-1", dataPath });
      group.agents.push(await startAgentOn(dataPath));
    });

    afterAll(async () => {
      await group?.[Symbol.asyncDispose]();
      await balancer?.stop();
    });

    test("agents reach every node through one port, by the name they dial", async () => {
      await group.connectedTo("web-1", names);
      const { nodes } = await client.agents.show("web-1");
      expect(nodes.map(({ name, state }) => `${name} ${state}`).toSorted()).toEqual(names.map((n) => `${n} connected`));
      for (const node of names) await (await group.runningThrough(node, "web-1")).end();
    });

    test("users' requests go round over all nodes", async () => {
      const answered = await answering(url, 12);
      expect([...new Set(answered)].toSorted()).toEqual(names);
      for (const name of names) expect(answered.filter((one) => one === name).length).toBeGreaterThanOrEqual(2);
    });

    test("a followed log arrives line by line", async () => {
      const flag = join(group.first.folder, "line-by-line");
      const script = [1, 2, 3]
        .map(
          (n) => `echo line ${n}; until [ -e '${flag}-${n}' ] || [ ! -d '${group.first.folder}' ]; do sleep 0.05; done`,
        )
        .join("\n");
      const run = await client.run({ on: "web-1", script });
      const seen: string[] = [];
      for await (const { text: line } of run.log({ signal: AbortSignal.timeout(30_000) })) {
        seen.push(line);
        // The script goes on only once its line was read here: a balancer that holds it back would never end this.
        await writeFile(`${flag}-${seen.length}`, "");
      }
      expect(seen).toEqual(["line 1", "line 2", "line 3"]);
    });

    test("a large body reaches the API, whose own words refuse it", async () => {
      const body = JSON.stringify({ on: "web-1", spec: { kind: "script", script: "x".repeat(9 * mebibyte) } });
      // Whoever answers before the body has come whole closes, and the answer may be lost with what was still on its way.
      const answer = await eventually("the answer arrives", async () => {
        const state = await fetch(`${url}/api/v1/submissions`, { method: "POST", headers: submitting(group), body });
        // A balancer whose node closed while it still sent has nothing but this to say.
        return { done: state.status !== 502, state };
      });
      expect(answer.status).toBe(413);
      expect(answer.headers.get("content-type")).toContain("application/json");
      expect(await answer.json()).toMatchObject({ code: "request.too-large" });
    });

    test("the client's address is recorded, not the balancer's and not what the client makes up", async () => {
      const answer = await send(`${url}/api/v1/submissions`, {
        body: JSON.stringify({ on: "web-1", spec: { kind: "script", script: "true" } }),
        localAddress: "127.0.0.2",
        headers: { ...submitting(group), "x-forwarded-for": "203.0.113.9" },
      });
      expect(answer).toMatchObject({ status: 201 });
      const { id } = JSON.parse(answer.text) as { id: string };
      const where = "select host(client_address::inet) as address from submission where id = $1";
      expect(await queryRows(group.first.databaseUrl, where, [id])).toEqual([{ address: "127.0.0.2" }]);
    });

    test("an idle agent's sessions outlive the balancer's limit", async () => {
      const sinceNow = async (): Promise<string[]> =>
        (await client.agents.show("web-1")).nodes.map(({ name, since }) => `${name} ${since}`).toSorted();
      const before = await sinceNow();
      const youngestMs = Math.max(...before.map((one) => Date.parse(one.split(" ")[1] ?? "")));
      await eventually("every session is two limits old", async () => {
        const ageMs = Date.now() - youngestMs;
        return { done: ageMs > idleSeconds * 2_000 + 1_000, state: ageMs };
      });
      expect(await sinceNow()).toEqual(before);
    });

    test("a node that drains leaves the rotation, and no request fails by it", async () => {
      const { node, url: own } = group.named("node-b");
      await node.drain();
      // From the first moment, with bodies that nginx has to keep for the next gate.
      const script = `#${"x".repeat(400_000)}\n`;
      await eventually("node-b answers nobody any more", async () => {
        for (let round = 0; round < 3; round += 1) await client.run({ on: "web-1", script });
        const answered = await answering(url, 8, program === "haproxy" ? [200, 503] : [200]);
        return { done: !answered.includes("node-b"), state: answered };
      });
      const before = await requestsServed(own, group.first.apiKey);
      for (let round = 0; round < 30; round += 1) await client.nodes.list({});
      expect(await requestsServed(own, group.first.apiKey)).toBe(before);
      expect([...new Set(await answering(url, 12))].toSorted()).toEqual(["node-a", "node-c"]);
    });
  });

  test.skipIf(isMissing)(`${program} passes a body of 1 GiB`, async () => {
    let received = 0;
    const sink = createServer((incoming, response) => {
      incoming.on("data", (bytes: Buffer) => (received += bytes.length));
      incoming.on("end", () => response.end("taken"));
    });
    sink.listen(0, "127.0.0.1");
    await once(sink, "listening");
    const address = sink.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const [apiPort, agentPort] = [await freePort(), await freePort()];
    const node = { id: "00000000-0000-7000-8000-000000000001", apiPort: port, agentPort: port };
    const balancer = await startBalancer(await plan(program, [node, node, node], { apiPort, agentPort }));
    try {
      const answer = await send(`http://127.0.0.1:${apiPort}/`, { body: { bytes: gibibyte } });
      expect(answer).toEqual({ status: 200, text: "taken" });
      expect(received).toBe(gibibyte);
    } finally {
      await balancer.stop();
      sink.closeAllConnections();
      sink.close();
    }
  });
}

function submitting(group: NodeGroup): Record<string, string> {
  return {
    authorization: `Bearer ${group.first.apiKey}`,
    "content-type": "application/json",
    "idempotency-key": randomUUID(),
  };
}

async function plan(
  kind: BalancerPlan["kind"],
  nodes: readonly BalancedNode[],
  ports: { readonly apiPort: number; readonly agentPort: number },
): Promise<BalancerPlan> {
  const [a, b, c] = nodes;
  if (a === undefined || b === undefined || c === undefined) throw new Error("three nodes are needed");
  const gatePorts = [await freePort(), await freePort(), await freePort()] as const;
  return { kind, nodes: [a, b, c], gatePorts, agentIdle: `${idleSeconds}s`, ...ports };
}

/** The nodes that answered one after another, by their own word in /readyz. */
async function answering(url: string, count: number, allowed: readonly number[] = [200]): Promise<string[]> {
  const answered: string[] = [];
  for (let round = 0; round < count; round += 1) {
    const answer = await fetch(`${url}/readyz`);
    expect(allowed).toContain(answer.status);
    answered.push(readinessSchema.parse(await answer.json()).node);
  }
  return answered;
}

/** Requests of users that a node answered by itself, from its metrics. */
async function requestsServed(url: string, apiKey: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${apiKey}` } })).text();
  const counts = metrics.matchAll(/^holdfast_api_request_seconds_count\{[^}]*route="\/api\/[^}]*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

interface Sending {
  readonly body: string | { readonly bytes: number };
  readonly headers?: Readonly<Record<string, string>>;
  readonly localAddress?: string;
}

/** By node:http, for `fetch` can neither choose its own address nor send a long body piece by piece. */
async function send(url: string, { body, ...options }: Sending): Promise<{ status: number; text: string }> {
  const length = typeof body === "string" ? Buffer.byteLength(body) : body.bytes;
  const headers = { ...options.headers, "content-length": String(length) };
  const outgoing = request(url, { ...(options as RequestOptions), method: "POST", headers });
  const answered = once(outgoing, "response") as Promise<[IncomingMessage]>;
  if (typeof body === "string") outgoing.end(body);
  else {
    const piece = Buffer.alloc(mebibyte);
    for (let sent = 0; sent < body.bytes; sent += piece.length)
      if (!outgoing.write(piece)) await Promise.race([once(outgoing, "drain"), answered]);
    outgoing.end();
  }
  const [response] = await answered;
  return { status: response.statusCode ?? 0, text: await text(response) };
}
