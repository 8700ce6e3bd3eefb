// Agents that reach their cluster through a proxy only: registration, the running agent and the words for what goes wrong,
// through tinyproxy and dante.
import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { registerAgent } from "../../agent/register.ts";
import { hasProgram } from "../harness/daemon.ts";
import { TestSite } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import { startHttpProxy, startSocksProxy, type ForwardProxy } from "../harness/forward-proxy.ts";
import { interceptor } from "../harness/interceptor.ts";

const missing = ["tinyproxy", "danted"].filter((program) => !hasProgram(program));
if (missing.length > 0) process.stderr.write(`proxies: ${missing.join(" and ")} not installed: skipped\n`);
const isSkipped = missing.length > 0 && process.env["CI"] !== "true";

describe.skipIf(isSkipped)("an agent behind a proxy", () => {
  let site: TestSite;
  let http: ForwardProxy;
  let locked: ForwardProxy;
  let socks: ForwardProxy;
  const servers: Server[] = [];
  const credentials = { user: "agent", password: "s3cret_word1" };

  beforeAll(async () => {
    site = await TestSite.start();
    [http, locked, socks] = await Promise.all([startHttpProxy(), startHttpProxy(credentials), startSocksProxy()]);
  });
  afterAll(async () => {
    // Proxies wait for the connections they lead.
    await site[Symbol.asyncDispose]();
    for (const proxy of [http, locked, socks]) await proxy?.stop();
    for (const server of servers) server.close();
  });

  const dataPathOf = (name: string): string => join(site.node.folder, "agents", name);
  const nodePort = async (): Promise<string> => {
    const [node] = (await site.node.client.nodes.list()).items;
    return node?.addresses[0]?.split(":").at(-1) ?? "";
  };

  async function register(name: string, proxy: string | undefined, environment: Record<string, string> = {}) {
    const { token } = await site.node.client.tokens.create({});
    const options = { server: site.node.url, token, name, dataPath: dataPathOf(name), proxy };
    return await registerAgent(options, { environment });
  }

  async function runsScripts(name: string): Promise<void> {
    await site.startAgent(dataPathOf(name));
    const [task] = await (await site.node.client.run({ on: name, script: "echo through" })).results();
    expect(task).toMatchObject({ state: "succeeded" });
  }

  it("with credentials registers and runs through it, and keeps them to itself", async () => {
    const url = new URL(locked.url);
    url.username = credentials.user;
    url.password = encodeURIComponent(credentials.password);
    expect(await register("http-01", url.href)).toMatchObject({ reached: "all" });
    await runsScripts("http-01");
    const log = await locked.log();
    // Registration and the session: two ways to the node, and one request for the enrolment itself.
    expect(log.match(new RegExp(`CONNECT 127\\.0\\.0\\.1:${await nodePort()}`, "g"))?.length).toBeGreaterThanOrEqual(2);
    expect(log).toContain("/api/v1/enrolment");
    const saved = join(dataPathOf("http-01"), "reach.json");
    expect((await stat(saved)).mode & 0o777).toBe(0o600);
    expect(JSON.parse(await readFile(saved, "utf8"))).toMatchObject({ proxy: url.href });
  });

  it("finds it in HTTPS_PROXY, and NO_PROXY goes before", async () => {
    const before = (await http.log()).length;
    expect(await register("env-01", undefined, { HTTPS_PROXY: http.url })).toMatchObject({ reached: "all" });
    const after = (await http.log()).length;
    expect(after).toBeGreaterThan(before);
    const exempted = { HTTPS_PROXY: http.url, NO_PROXY: "example.com, 127.0.0.0/8" };
    expect(await register("env-02", undefined, exempted)).toMatchObject({ reached: "all" });
    expect((await http.log()).length).toBe(after);
  });

  it("goes through SOCKS5", async () => {
    expect(await register("socks-01", socks.url)).toMatchObject({ reached: "all" });
    await runsScripts("socks-01");
    const port = await nodePort();
    await eventually("dante has written it down", async () => {
      const log = await socks.log();
      return { done: log.includes(`127.0.0.1.${port}`), state: log };
    });
  });

  it("hears that the proxy wants credentials", async () => {
    await expect(register("no-01", locked.url)).rejects.toMatchObject({
      message: expect.stringMatching(/407|Unauthorized|Proxy/i),
    });
    // The nodes' own rows say it as well, when the API is exempt.
    const { nodes, reached } = await registerWithExemptApi("no-02", locked.url);
    expect(reached).toBe("none");
    expect(nodes[0]).toMatchObject({ finding: "proxy", reason: expect.stringMatching(/answered 40[17] to CONNECT/) });
    expect(nodes[0]?.mend).not.toBe("");
  });

  it("hears that nothing listens where the proxy should be", async () => {
    const { nodes } = await registerWithExemptApi("no-03", "http://127.0.0.1:9");
    expect(nodes[0]).toMatchObject({
      finding: "proxy",
      reason: "proxy http://127.0.0.1:9: connect ECONNREFUSED 127.0.0.1:9",
    });
  });

  it("hears that the proxy reaches no node", async () => {
    const { nodes } = await registerWithExemptApi("no-04", await deafProxy());
    expect(nodes[0]).toMatchObject({ finding: "proxy", reason: expect.stringContaining("answered 503 to CONNECT") });
  });

  it("hears that the proxy intercepts TLS, and who it is", async () => {
    const { nodes } = await registerWithExemptApi("no-05", await inspectingProxy());
    expect(nodes[0]).toMatchObject({
      finding: "intercepted",
      reason: expect.stringContaining('TLS intercepted by "Corp Inspection CA"'),
    });
  });

  async function registerWithExemptApi(name: string, proxy: string) {
    return await register(name, proxy, { NO_PROXY: new URL(site.node.url).host });
  }

  /** Refuses every CONNECT as a proxy does whose other side does not answer. */
  function deafProxy(): Promise<string> {
    return listening((socket) => {
      socket.once("data", () => socket.end("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"));
    });
  }

  /** Takes every CONNECT and ends TLS itself, with a certificate of its own. */
  async function inspectingProxy(): Promise<string> {
    const { privateKeyPem: key, certificatePem: cert } = await interceptor();
    return listening((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        new TLSSocket(socket, { isServer: true, key, cert }).on("error", () => undefined);
      });
    });
  }

  async function listening(serve: (socket: Socket) => void): Promise<string> {
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      serve(socket);
    });
    servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (typeof address !== "object" || address === null) throw new Error("no port");
    return `http://127.0.0.1:${address.port}`;
  }
});
