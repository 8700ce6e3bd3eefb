// A node inside the test's own process, on a database of its own of the run's PostgreSQL. Real TLS, real HTTP.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { inject } from "vitest";
import { Holdfast } from "../../sdk/holdfast.ts";
import { startNode, type HoldfastNode, type NodeOptions } from "../../server/node.ts";
import { silentLogger, type Logger } from "../../shared/logger.ts";
import { createDatabase } from "./postgres.ts";
import { scratchParent } from "./scratch.ts";

export interface TestNode {
  readonly node: HoldfastNode;
  readonly url: string;
  readonly apiKey: string;
  readonly client: Holdfast;
  readonly databaseUrl: string;
  readonly folder: string;
  stop(): Promise<void>;
}

export async function startTestNode(
  options: Partial<NodeOptions> = {},
  logger: Logger = silentLogger,
): Promise<TestNode> {
  const database = await createDatabase(inject("databaseUrl"));
  const folder = await mkdtemp(join(scratchParent(), "holdfast-node-"));
  const loopback = { host: "127.0.0.1", port: 0 };
  const clear = async (): Promise<void> => {
    await database.drop();
    await rm(folder, { recursive: true, force: true });
  };
  const node = await startNode(
    { logger },
    {
      dataDirectory: folder,
      databaseUrl: database.url,
      name: "node-a",
      version: "0.0.0-test",
      apiListen: loopback,
      agentListen: loopback,
      ...options,
    },
  ).catch(async (cause: unknown) => {
    await clear();
    throw cause;
  });
  const url = `http://127.0.0.1:${node.apiAddress.port}`;
  const apiKey = (await readFile(join(folder, "admin-api-key"), "utf8")).trim();
  return {
    node,
    url,
    apiKey,
    client: new Holdfast({ url, apiKey, retryForMs: 2_000 }),
    databaseUrl: database.url,
    folder,
    async stop() {
      await node.stop();
      await clear();
    },
  };
}
