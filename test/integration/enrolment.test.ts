// Enrolment against a real node: tokens that do not count, a server that is not the pinned one, names, repetition.
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { registerAgent } from "../../agent/register.ts";
import { decodeToken, encodeToken } from "../../shared/enrolment-token.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";

describe("enrolment", () => {
  let cluster: TestNode;
  let other: TestNode;
  let folder: string;

  beforeAll(async () => {
    cluster = await startTestNode();
    other = await startTestNode();
    folder = await mkdtemp(join(tmpdir(), "holdfast-enrol-"));
  });
  afterAll(async () => {
    await cluster.stop();
    await other.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const register = (token: string, name: string, server = cluster.url) =>
    registerAgent({ server, token, name, dataPath: join(folder, name) });
  const newToken = async (terms = {}): Promise<string> => (await cluster.client.tokens.create(terms)).token;

  it("gives a token's holder a certificate and reaches every node with it", async () => {
    const registered = await register(await newToken(), "first");
    expect(registered).toMatchObject({ name: "first", enrolment: "new", nodes: [{ name: "node-a", ok: true }] });
    expect(await cluster.client.agents.show("first")).toMatchObject({ status: "active", connection: "offline" });
  });

  it("puts the token's labels over those the agent asks for", async () => {
    const token = await newToken({ labels: { role: "web" } });
    await registerAgent({
      server: cluster.url,
      token,
      name: "labelled",
      dataPath: join(folder, "labelled"),
      labels: { role: "admin", zone: "a" },
    });
    expect((await cluster.client.agents.show("labelled")).labels).toEqual({ role: "web", zone: "a" });
  });

  it("refuses a token that was used", async () => {
    const token = await newToken();
    await register(token, "used-once");
    await expect(register(token, "used-twice")).rejects.toMatchObject({ code: "token.refused" });
    await expect(cluster.client.agents.show("used-twice")).rejects.toMatchObject({ code: "agent.unknown" });
  });

  it("refuses a token that has expired, with the words for any other refused token", async () => {
    const expired = await newToken({ expiresMs: 1_000 });
    const { tokenId } = decodeToken(expired);
    const revoked = await newToken();
    await cluster.client.tokens.revoke(decodeToken(revoked).tokenId);
    await expect
      .poll(async () => (await cluster.client.tokens.list()).items.find((token) => token.id === tokenId)?.state, {
        timeout: 5_000,
      })
      .toBe("expired");
    const refusals = await Promise.all(
      [expired, revoked].map((token, index) => register(token, `never-${index}`).catch((cause: unknown) => cause)),
    );
    expect(refusals[0]).toMatchObject({ code: "token.refused" });
    expect(refusals[1]).toMatchObject({ code: "token.refused", message: (refusals[0] as Error).message });
  });

  it("lets exactly one of two agents win a token they use at the same time", async () => {
    const token = await newToken();
    const settled = await Promise.allSettled([register(token, "racer-a"), register(token, "racer-b")]);
    expect(settled.map((one) => one.status).toSorted()).toEqual(["fulfilled", "rejected"]);
  });

  it("refuses a name that is taken unless the token allows replacing it", async () => {
    await register(await newToken(), "taken");
    const again = { server: cluster.url, name: "taken", dataPath: join(folder, "taken-2") };
    await expect(registerAgent({ ...again, token: await newToken() })).rejects.toMatchObject({
      code: "agent.name-taken",
    });
    const { id } = await cluster.client.agents.show("taken");
    await expect(registerAgent({ ...again, token: await newToken({ replace: "taken" }) })).resolves.toMatchObject({
      agentId: id,
    });
  });

  it("keeps identity when a registered agent registers again", async () => {
    const first = await register(await newToken(), "steady");
    expect(await register(await newToken(), "steady")).toMatchObject({ agentId: first.agentId, enrolment: "kept" });
  });

  it("sends nothing that depends on the secret to a server without the pinned CA", async () => {
    const { server, url, requests } = await recordingProxy(other.url);
    try {
      await expect(register(await newToken(), "pinned", url)).rejects.toMatchObject({ code: "enrolment.untrusted" });
      expect(requests.map((request) => request.method)).toEqual(["GET"]);
    } finally {
      server.close();
    }
  });

  it("never lets the secret itself leave the agent, even to its own cluster", async () => {
    const { server, url, requests } = await recordingProxy(cluster.url);
    try {
      const token = await newToken();
      await register(token, "quiet", url);
      const secret = Buffer.from(decodeToken(token).secret);
      const sent = requests.map((request) => request.raw).join("\n");
      expect(requests.map((request) => request.method)).toEqual(["GET", "POST"]);
      for (const form of [token, secret.toString("hex"), secret.toString("base64"), secret.toString("base64url")])
        expect(sent).not.toContain(form);
    } finally {
      server.close();
    }
  });

  it("refuses a token whose pin was exchanged", async () => {
    const mine = decodeToken(await newToken());
    const theirs = decodeToken((await other.client.tokens.create({})).token);
    const forged = encodeToken({ ...mine, nodesCaPin: theirs.nodesCaPin });
    await expect(register(forged, "forged")).rejects.toMatchObject({ code: "enrolment.untrusted" });
  });

  it("refuses a token of another cluster whose pin was adapted to this one", async () => {
    const mine = decodeToken(await newToken());
    const theirs = decodeToken((await other.client.tokens.create({})).token);
    const forged = encodeToken({ ...theirs, nodesCaPin: mine.nodesCaPin });
    await expect(register(forged, "foreign")).rejects.toMatchObject({ code: "token.refused" });
  });
});

interface Recorded {
  readonly method: string;
  readonly raw: string;
}

/** Passes requests on and remembers them whole. */
async function recordingProxy(target: string): Promise<{ server: Server; url: string; requests: Recorded[] }> {
  const requests: Recorded[] = [];
  const server = createServer((request: IncomingMessage, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString();
      requests.push({ method: request.method ?? "", raw: `${request.url} ${JSON.stringify(request.headers)} ${body}` });
      const init = {
        method: request.method ?? "GET",
        headers: { "content-type": "application/json" },
        ...(body === "" ? {} : { body }),
      };
      void fetch(`${target}${request.url}`, init).then(async (answer) => {
        response.writeHead(answer.status, { "content-type": "application/json" });
        response.end(await answer.text());
      });
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const address: AddressInfo | string | null = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return { server, url: `http://127.0.0.1:${port}`, requests };
}
