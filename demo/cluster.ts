// What the demo starts: PostgreSQL in its own process, so that no node takes the database along; nodes and agents as
// processes of their own. Everything is ended in reverse order by `end`, and lies in one folder that goes with it.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Holdfast } from "../sdk/holdfast.ts";
import { EmbeddedPostgres } from "../server/store/embedded.ts";
import { systemClock } from "../shared/clock.ts";
import { silentLogger } from "../shared/logger.ts";
import { SystemRandom } from "../shared/random.ts";
import { Program, runProgram, startServer, type RunningServer } from "./processes.ts";

export interface DemoNode extends RunningServer {
  readonly name: string;
  readonly client: Holdfast;
}

export class DemoCluster {
  readonly folder: string;
  readonly nodes: DemoNode[] = [];
  readonly #steps: (() => Promise<unknown>)[] = [];
  #databaseUrl = "";
  apiKey = "";

  private constructor(folder: string) {
    this.folder = folder;
    this.#steps.push(() => rm(folder, { recursive: true, force: true }));
  }

  static async create(): Promise<DemoCluster> {
    return new DemoCluster(await mkdtemp(join(tmpdir(), "holdfast-demo-")));
  }

  async startDatabase(): Promise<void> {
    const postgres = new EmbeddedPostgres(
      { clock: systemClock, random: new SystemRandom(), logger: silentLogger },
      { dataDirectory: join(this.folder, "database") },
    );
    this.#steps.push(() => postgres.stop());
    await postgres.start();
    this.#databaseUrl = postgres.url;
  }

  /** The first one creates the cluster; the others join it with its master key. */
  async startNode(name: string): Promise<DemoNode> {
    const isFirst = this.nodes.length === 0;
    const server = await startServer({
      name,
      dataDirectory: join(this.folder, name),
      databaseUrl: this.#databaseUrl,
      ...(isFirst ? {} : { masterKeyFile: join(this.folder, "node-a", "master.key") }),
      onProgram: (program) => this.#steps.push(() => program.stop()),
    });
    if (isFirst) this.apiKey = (await readFile(join(this.folder, name, "admin-api-key"), "utf8")).trim();
    const node = { name, ...server, client: new Holdfast({ url: server.url, apiKey: this.apiKey }) };
    this.nodes.push(node);
    return node;
  }

  get first(): DemoNode {
    const [node] = this.nodes;
    if (node === undefined) throw new Error("no node was started");
    return node;
  }

  /** Ends a node's process at once; answers one that is left. */
  kill(name: string): DemoNode {
    const node = this.nodes.find((one) => one.name === name);
    if (node === undefined) throw new Error(`there is no node ${name}`);
    node.program.kill("SIGKILL");
    this.nodes.splice(this.nodes.indexOf(node), 1);
    return this.first;
  }

  /** Enrols an agent with every node and starts it; answers what the registration said. */
  async startAgent({ name, label }: { readonly name: string; readonly label: string }): Promise<string> {
    const { url, client } = this.first;
    const { token } = await client.tokens.create({ labels: { demo: "true" } });
    const place = ["--name", name, "--label", label, "--data-dir", join(this.folder, name)];
    const words = ["agent", "register", "--server", url, "--token", token, "--all-nodes", ...place];
    const registered = await runProgram({ title: `register ${name}`, args: words });
    if (registered.exitCode !== 0) throw new Error(registered.output);
    const args = ["agent", "run", "--data-dir", join(this.folder, name)];
    const agent = new Program({ title: `agent ${name}`, args });
    this.#steps.push(() => agent.stop());
    return registered.output.trimEnd();
  }

  /** Waits until each of these agents has a session with each of these nodes. */
  async connected(agents: readonly string[], nodes: readonly string[]): Promise<void> {
    const endMs = performance.now() + 20_000;
    while (performance.now() < endMs) {
      const { items } = await this.first.client.agents.list();
      const isConnected = agents.every((name) => {
        const seen = items.find((agent) => agent.name === name)?.nodes ?? [];
        return nodes.every((node) => seen.some((one) => one.name === node && one.state === "connected"));
      });
      if (isConnected) return;
      await new Promise((resolve) => void setTimeout(resolve, 50));
    }
    throw new Error(`${agents.join(" and ")} did not connect to ${nodes.join(", ")} within 20 s`);
  }

  async end(): Promise<void> {
    for (const step of this.#steps.splice(0).toReversed()) await step();
  }
}
