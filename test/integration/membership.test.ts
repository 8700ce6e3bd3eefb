// Nodes that join, move, are renamed and removed, while an agent stays up and is never touched.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { systemClock } from "../../shared/clock.ts";
import { eventually } from "../harness/eventually.ts";
import { NodeGroup } from "../harness/node-group.ts";
import { createDatabase } from "../harness/postgres.ts";

let group: NodeGroup;

beforeAll(async () => {
  group = await NodeGroup.start(["node-b"]);
  await group.startAgent("web-01");
});
afterAll(() => group[Symbol.asyncDispose]());

const client = () => group.client;
const listed = async () =>
  (await client().nodes.list()).items.filter(({ state }) => state !== "removed").map(({ name }) => name);

describe("a node of the cluster", () => {
  it("that joins is dialled by every agent, with no edit and no restart", async () => {
    await group.add("node-c");
    await group.connectedTo("web-01", ["node-a", "node-b", "node-c"]);
  });

  it("that joins tells the others, which would look for it only with their next heartbeats", async () => {
    const heard = new Client({ connectionString: group.first.databaseUrl });
    await heard.connect();
    const told = Promise.withResolvers<unknown>();
    heard.on("notification", ({ payload = "" }) => payload.includes('"nodes"') && told.resolve(JSON.parse(payload)));
    try {
      await heard.query("listen holdfast");
      await group.add("newcomer");
      expect(await told.promise).toMatchObject({ kind: "nodes" });
    } finally {
      await heard.end();
    }
    await group.stop("newcomer");
    await client().nodes.remove("newcomer");
  });

  it("whose name or address no list can hold does not join", async () => {
    const before = await listed();
    await expect(group.add("odd", { name: "my node" })).rejects.toMatchObject({ code: "config.invalid" });
    await expect(group.add("odd", { advertise: ["no address:1"] })).rejects.toMatchObject({ code: "config.invalid" });
    expect(await listed()).toEqual(before);
  });

  it("whose API address is taken does not join: agents would dial it for a day", async () => {
    const before = await listed();
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const address = taken.address();
    const port = typeof address === "object" ? (address?.port ?? 0) : 0;
    await expect(group.add("barred", { apiListen: { host: "127.0.0.1", port } })).rejects.toMatchObject({
      code: "config.invalid",
      message: expect.stringContaining("the API cannot listen"),
    });
    taken.close();
    expect(await listed()).toEqual(before);
  });

  it("that comes back on another port is moved to", async () => {
    const before = (await client().nodes.show("node-c")).addresses;
    await group.stop("node-c");
    await group.add("node-c");
    await group.connectedTo("web-01", ["node-a", "node-b", "node-c"]);
    expect((await client().nodes.show("node-c")).addresses).not.toEqual(before);
  });

  it("that is renamed stays the same node: its id is kept with its data directory", async () => {
    const { id } = await client().nodes.show("node-c");
    await group.stop("node-c");
    const renamed = await group.add("node-c", { name: "renamed" });
    group.nodes[group.nodes.indexOf(renamed)] = { ...renamed, name: "renamed" };
    await group.connectedTo("web-01", ["node-a", "node-b", "renamed"]);
    expect((await client().nodes.show("renamed")).id).toBe(id);
  });

  it("may advertise several addresses, of which one has to lead to it", async () => {
    await group.stop("renamed");
    const port = await freePort();
    await group.add("node-c", {
      agentListen: { host: "127.0.0.1", port },
      advertise: ["127.0.0.1:1", `127.0.0.1:${port}`],
    });
    await group.connectedTo("web-01", ["node-a", "node-b", "node-c"]);
    expect((await client().nodes.show("node-c")).addresses).toEqual(["127.0.0.1:1", `127.0.0.1:${port}`]);
  });

  it("that shares its name with another is named by its id", async () => {
    const twin = await group.add("twin", { name: "node-c" });
    await expect(client().nodes.drain("node-c")).rejects.toMatchObject({
      code: "request.invalid",
      message: expect.stringContaining(twin.node.id),
    });
    expect(await client().nodes.show(twin.node.id)).toMatchObject({ id: twin.node.id, name: "node-c" });
    await client().nodes.remove(twin.node.id);
    await twin.node.stop();
    group.nodes.splice(group.nodes.indexOf(twin), 1);
  });

  it("that is removed while it runs hands over and ends; agents drop it; it comes back only by joining again", async () => {
    const ended = Promise.withResolvers<string>();
    await group.stop("node-c");
    const doomed = await group.add("node-c", {}, { onEnded: ended.resolve });
    await group.connectedTo("web-01", ["node-a", "node-b", "node-c"]);
    const task = await group.runningThrough("node-c", "web-01");
    const beganMs = systemClock.monotonicMs();
    expect(await client().nodes.remove("node-c")).toMatchObject({ state: "removed" });
    expect(await ended.promise).toBe("removed");
    await group.connectedTo("web-01", ["node-a", "node-b"]);
    expect(await listed()).not.toContain("node-c");
    await group.flowsThrough(task.id, ["node-a", "node-b"]);
    expect(systemClock.monotonicMs() - beganMs).toBeLessThan(10_000);
    await task.end();
    await group.reaches(task.id, "succeeded");
    await expect(client().nodes.remove(doomed.node.id)).rejects.toMatchObject({ code: "node.unknown" });
    await group.stop("node-c");
    await expect(group.add("node-c")).rejects.toMatchObject({ code: "node.removed" });
    const again = await group.add("node-c", { intent: "join" });
    expect(again.node.id).not.toBe(doomed.node.id);
    await group.connectedTo("web-01", ["node-a", "node-b", "node-c"]);
  });
});

describe("a node that may not join is refused in clear words, and nothing of it is listed", () => {
  it.each([
    ["a version too far from a live node's", { version: "9.9.0" }, "node.version", /node node-[abc] runs 0\.0\.0-test/],
    ["another cluster's master key", { masterKeyFile: "wrong" }, "master-key.wrong", /master key/],
    ["a database without a cluster", { intent: "join" as const, databaseUrl: "empty" }, "config.invalid", /no cluster/],
  ])("with %s", async (_name, options, code, words) => {
    const { databaseUrl, masterKeyFile, ...rest } = { databaseUrl: undefined, masterKeyFile: undefined, ...options };
    const empty = databaseUrl === undefined ? undefined : await createDatabase(inject("databaseUrl"), "empty");
    try {
      const given = {
        ...rest,
        ...(masterKeyFile === undefined ? {} : { masterKeyFile: await wrongKey() }),
        ...(empty === undefined ? {} : { databaseUrl: empty.url }),
      };
      const tried = group.add("node-x", given);
      await expect(tried).rejects.toMatchObject({ code, message: expect.stringMatching(words) });
      expect(await listed()).not.toContain("node-x");
    } finally {
      await empty?.drop();
    }
  });

  it("with a clock 3 s off", async () => {
    const clock = { ...systemClock, wallMs: () => systemClock.wallMs() + 3_000 };
    const tried = group.add("node-x", {}, { clock });
    await expect(tried).rejects.toMatchObject({
      code: "node.clock",
      message: expect.stringContaining("3.0 s ahead of"),
    });
    expect(await listed()).not.toContain("node-x");
  });
});

describe("the list that agents follow", () => {
  it("is pushed once for changes that come together", async () => {
    const agent = group.agents[0];
    await Promise.all(["node-d", "node-e"].map((name) => group.add(name)));
    await group.connectedTo("web-01", ["node-a", "node-b", "node-c", "node-d", "node-e"]);
    await eventually("the agent itself shows all five", () => {
      const names = agent?.status().nodes.map(({ node }) => node) ?? [];
      return { done: names.length === 5, state: names };
    });
  });
});

async function wrongKey(): Promise<string> {
  const path = join(group.first.folder, "wrong.key");
  await writeFile(path, `${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
  return path;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  return typeof address === "object" && address !== null ? address.port : 0;
}
