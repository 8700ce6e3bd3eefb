// Registration and renewal: no secret to a stranger, one row per node, a new key in use before the old certificate ends.
import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { Server } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { registerAgent } from "../../agent/register.ts";
import { loadIdentity } from "../../agent/identity.ts";
import { issueAgentLeaf } from "../../certs/leaf.ts";
import { buildAnswer, buildGreeting, issuingPin, verifyRequest } from "../../certs/enrolment-proof.ts";
import { systemClock } from "../../shared/clock.ts";
import { enrolmentRequestSchema } from "../../shared/enrolment.ts";
import { encodeToken, tokenSecretDigest } from "../../shared/enrolment-token.ts";
import { agentIdSchema, createIdSource, newId, tokenIdSchema } from "../../shared/ids.ts";
import { SystemRandom } from "../../shared/random.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import { createTestAuthorities } from "../harness/certs.ts";
import type { TestAuthorities } from "../harness/certs.ts";

const ids = createIdSource({ clock: systemClock, random: new SystemRandom() });
let bench: AgentBench;
const servers: Server[] = [];

beforeEach(() => {
  bench = new AgentBench();
});

afterEach(async () => {
  await bench.stop();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  }
});

interface Enrolment {
  readonly url: string;
  readonly token: string;
  readonly bodies: string[];
}

/** The enrolment endpoint of a node of `authorities`, whose token pins `pinned`. */
async function enrolment(authorities: TestAuthorities, pinned: TestAuthorities = authorities): Promise<Enrolment> {
  const node = authorities.nodeLeaf({ lifetimeMs: 3_600_000 });
  const secret = new SystemRandom().bytes(32);
  const { nodesCaPin } = issuingPin(pinned.nodes.certificatePem, pinned.nodeLeaf().certificatePem);
  const token = encodeToken({ tokenId: newId(ids, tokenIdSchema), secret, nodesCaPin });
  const bodies: string[] = [];
  const nonce = Buffer.from(new SystemRandom().bytes(56)).toString("base64url");
  const server = createServer((request, response) => {
    void (async () => {
      let body = "";
      for await (const chunk of request) body += String(chunk);
      bodies.push(`${request.method} ${JSON.stringify(request.headers)} ${body}`);
      response.setHeader("content-type", "application/json");
      const { cluster } = authorities;
      if (request.method === "GET") {
        response.end(
          JSON.stringify(buildGreeting({ nonce, cluster, nodesCa: authorities.nodes.certificatePem }, node)),
        );
        return;
      }
      const parsed = enrolmentRequestSchema.parse(JSON.parse(body));
      const { publicKeySpki } = verifyRequest(parsed, { cluster, nodesCaPin, secretDigest: tokenSecretDigest(secret) });
      const agentId = newId(ids, agentIdSchema);
      const leaf = issueAgentLeaf(
        { authority: authorities.agents, cluster, agentId, publicKeySpki, lifetimeMs: 3_600_000 },
        { clock: systemClock, random: new SystemRandom() },
      );
      const answer = {
        agentId,
        name: parsed.name,
        cluster,
        certificate: leaf.certificatePem,
        agentsCa: authorities.agents.certificatePem,
        nodesCa: authorities.nodes.certificatePem,
        nodes: [
          ...bench.nodes.map((fake) => fake.listed()),
          { ...bench.node.listed(), name: "down", addresses: ["127.0.0.1:1"] },
        ],
        nodesVersion: 3,
      };
      response.end(JSON.stringify(buildAnswer(answer, parsed, node)));
    })().catch((cause: unknown) => response.writeHead(500).end(String(cause)));
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no port");
  return { url: `http://127.0.0.1:${address.port}`, token, bodies };
}

describe("registration", () => {
  test("stores an identity, really dials every node and says which cannot be reached and why", async () => {
    await bench.start(2);
    const { url, token, bodies } = await enrolment(bench.authorities);
    const dataPath = bench.path("registered");
    const registration = await registerAgent({ server: url, token, name: "db-01", labels: { role: "db" }, dataPath });
    expect(registration).toMatchObject({ name: "db-01", cluster: bench.authorities.cluster, enrolment: "new" });
    expect(registration.nodes.map(({ name, ok }) => [name, ok])).toEqual([
      ["node-0", true],
      ["node-1", true],
      ["down", false],
    ]);
    expect(registration.nodes[2]).toMatchObject({
      reason: expect.stringContaining("ECONNREFUSED"),
      mend: expect.stringContaining("127.0.0.1:1"),
    });
    expect(bench.nodes.every(({ hellos }) => hellos.every(({ probe }) => probe === true))).toBe(true);
    const identity = await loadIdentity(dataPath);
    expect(identity?.seeds).toContain(bench.node.address);
    expect((await stat(`${dataPath}/key.pem`)).mode & 0o777).toBe(0o600);
    // The secret is in nothing that was sent.
    const secret = Buffer.from(token.slice(4), "base64url").subarray(16, 48);
    for (const body of bodies)
      for (const form of ["hex", "base64", "base64url"] as const) expect(body).not.toContain(secret.toString(form));
    const again = await registerAgent({ server: url, token, name: "db-01", dataPath });
    expect(again).toMatchObject({ agentId: registration.agentId, enrolment: "kept" });
  });

  test("sends nothing but its greeting to a server with another CA than the token pins", async () => {
    await bench.start();
    const { url, token, bodies } = await enrolment(createTestAuthorities(), bench.authorities);
    const dataPath = bench.path("registered");
    await expect(registerAgent({ server: url, token, name: "db-01", dataPath })).rejects.toMatchObject({
      code: "enrolment.untrusted",
    });
    expect(bodies.map((body) => body.slice(0, 4))).toEqual(["GET "]);
    expect(await loadIdentity(dataPath)).toBeUndefined();
  });

  test("says what to check when nobody answers, and what a broken token lacks", async () => {
    await bench.start();
    const { token } = await enrolment(bench.authorities);
    const dataPath = bench.path("registered");
    await expect(registerAgent({ server: "http://127.0.0.1:1", token, name: "a", dataPath })).rejects.toMatchObject({
      code: "cluster.unreachable",
    });
    await expect(
      registerAgent({ server: "http://127.0.0.1:1", token: token.slice(0, -5), name: "a", dataPath }),
    ).rejects.toMatchObject({ code: "token.refused" });
  });
});

test("a key that others may read stops the start", async () => {
  await bench.start();
  const { chmod } = await import("node:fs/promises");
  await chmod(bench.path("key.pem"), 0o644);
  await expect(bench.agent()).rejects.toMatchObject({
    code: "config.invalid",
    mend: expect.stringContaining("chmod 600"),
  });
});

test("a certificate is renewed at half of its life with a new key, and every session moves to it", async () => {
  const renewed: string[] = [];
  await bench.start(2, {
    lifetimeMs: 6_000,
    onRenew: ({ spki }) => {
      const leaf = issueAgentLeaf(
        {
          authority: bench.authorities.agents,
          cluster: bench.authorities.cluster,
          agentId: agentId(),
          publicKeySpki: Buffer.from(spki),
          lifetimeMs: 3_600_000,
        },
        { clock: systemClock, random: new SystemRandom() },
      );
      renewed.push(leaf.thumbprint);
      return {
        type: "renewed",
        certificate: leaf.certificatePem,
        agentsCa: [bench.authorities.agents.certificatePem],
        nodesCa: [bench.authorities.nodes.certificatePem],
      };
    },
  });
  const identity = await loadIdentity(bench.folder);
  const agentId = () => {
    if (identity === undefined) throw new Error("no identity");
    return identity.agentId;
  };
  await bench.agent();
  const thumbprint = (no: number): string | undefined =>
    bench.nodes[no]?.session?.thumbprint.replaceAll(":", "").toLowerCase();
  await bench.store.until(
    "both sessions on the new certificate",
    () => renewed.length > 0 && [0, 1].every((no) => thumbprint(no) === renewed[0]),
    15_000,
  );
  expect(await readFile(bench.path("key.pem"), "utf8")).not.toBe(identity?.key);
  expect((await loadIdentity(bench.folder))?.certificate).not.toBe(identity?.certificate);
});
