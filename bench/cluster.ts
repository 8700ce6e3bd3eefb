// A real node with embedded PostgreSQL and real agents, each its own process, in a temporary folder.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Program, runProgram, startServer, type RunningServer } from "../demo/processes.ts";
import { Holdfast } from "../sdk/holdfast.ts";

export interface BenchCluster {
  readonly server: RunningServer;
  readonly agents: readonly Program[];
  readonly agentNames: readonly string[];
  readonly client: Holdfast;
  readonly apiKey: string;
  readonly databaseUrl: string;
  /** An agent's data directory. */
  agentFolder(name: string): string;
  stop(): Promise<void>;
}

/** Agents run from this checkout, or from the single executable where one is given. */
export async function startBenchCluster(
  agentCount: number,
  { executable }: { readonly executable?: string } = {},
): Promise<BenchCluster> {
  const own = executable === undefined ? {} : { executable };
  const folder = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  const dataDirectory = join(folder, "server");
  // Benches submit faster than agents take: the bound on queues is not what they ask about.
  const server = await startServer({
    name: "node-a",
    dataDirectory,
    arguments: ["--queue-per-agent=10000000", "--queue-total=100000000"],
  });
  const apiKey = (await readFile(join(dataDirectory, "admin-api-key"), "utf8")).trim();
  const databaseUrl = (await readFile(join(dataDirectory, "database-url"), "utf8")).trim();
  const client = new Holdfast({ url: server.url, apiKey });
  const agents: Program[] = [];
  const agentNames = Array.from({ length: agentCount }, (_, index) => `agent-${index}`);
  const stop = async (): Promise<void> => {
    await Promise.all(agents.map((agent) => agent.stop()));
    await server.program.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    for (const name of agentNames) {
      const { token } = await client.tokens.create({});
      const place = ["--name", name, "--data-dir", join(folder, name)];
      const args = ["agent", "register", "--server", server.url, "--token", token, "--all-nodes", ...place];
      const registered = await runProgram({ title: `register ${name}`, args });
      if (registered.exitCode !== 0) throw new Error(registered.output);
      agents.push(new Program({ title: name, ...own, args: ["agent", "run", "--data-dir", join(folder, name)] }));
    }
    await connected(client, agentCount);
  } catch (cause) {
    await stop();
    throw cause;
  }
  return { server, agents, agentNames, client, apiKey, databaseUrl, agentFolder: (name) => join(folder, name), stop };
}

async function connected(client: Holdfast, count: number): Promise<void> {
  const endMs = performance.now() + 60_000;
  for (;;) {
    const { items } = await client.agents.list({ limit: 200 });
    const live = items.filter((agent) => agent.connection === "fully").length;
    if (live === count) return;
    if (performance.now() > endMs) throw new Error(`${live} of ${count} agents connected within 60 s`);
    await new Promise((resolve) => void setTimeout(resolve, 100));
  }
}
