// Several nodes as processes on one database of their own, which no node takes along when it dies; agents as processes
// registered with all of them. A node that was ended starts again on its ports, as a supervisor would have it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inject } from "vitest";
import type { Program, RunningServer, ServerPlan } from "../../demo/processes.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import type { RunHandle } from "../../sdk/run-handle.ts";
import type { TaskView } from "../../shared/api/tasks.ts";
import { isFinal } from "../../shared/task.ts";
import { TestCluster, type AgentPlan } from "./cluster.ts";
import { eventually } from "./eventually.ts";
import { createDatabase, type TestDatabase } from "./postgres.ts";
import { countedLines, countingScript, startsIn } from "./script-truth.ts";

export interface ProcessNode {
  readonly name: string;
  server: RunningServer;
  readonly client: Holdfast;
}

export interface Counted {
  readonly agent: string;
  readonly id: string;
  readonly truth: string;
  readonly count: number;
}

export interface ProcessNodesOptions {
  /** On which the database is made. Default: the one of the whole run. */
  readonly postgresUrl?: string;
  readonly agentHost?: string;
  /** What every agent is started with. */
  readonly agentPlan?: Omit<AgentPlan, "name" | "dataDirectory">;
  /** Called with a node's process at once. */
  readonly onNode?: (program: Program) => void;
  /** What the node of this name is started with. */
  readonly environmentOf?: (name: string) => Readonly<Record<string, string>>;
}

export class ProcessNodes implements AsyncDisposable {
  readonly cluster: TestCluster;
  readonly folder: string;
  readonly database: TestDatabase;
  readonly nodes: ProcessNode[] = [];
  readonly #options: ProcessNodesOptions;
  #truths = 0;
  readonly #starting = new Set<Program>();

  private constructor(
    parts: { readonly cluster: TestCluster; readonly folder: string; readonly database: TestDatabase },
    options: ProcessNodesOptions,
  ) {
    const { cluster, folder, database } = parts;
    this.#options = options;
    this.cluster = cluster;
    this.folder = folder;
    this.database = database;
  }

  static async start(
    names: readonly [string, ...string[]],
    agents: readonly string[],
    options: ProcessNodesOptions = {},
  ): Promise<ProcessNodes> {
    const { postgresUrl, agentPlan } = options;
    // Another server than the run's has no template of a migrated one: the first node migrates it.
    const database =
      postgresUrl === undefined
        ? await createDatabase(inject("databaseUrl"))
        : await createDatabase(postgresUrl, "empty");
    const folder = await mkdtemp(join(tmpdir(), "holdfast-truth-"));
    const { onNode } = options;
    const cluster = await TestCluster.start({
      name: names[0],
      ...(onNode === undefined ? {} : { onProgram: onNode }),
      databaseUrl: database.url,
      ...nodePlanOf(names[0], options),
    });
    const started = new ProcessNodes({ cluster, folder, database }, options);
    try {
      started.#add(names[0], cluster.server);
      for (const name of names.slice(1)) await started.startNode(name);
      // A few at a time: each is two processes that start.
      for (let at = 0; at < agents.length; at += 3)
        await Promise.all(agents.slice(at, at + 3).map((name) => cluster.startAgent({ ...agentPlan, name })));
    } catch (cause) {
      await started[Symbol.asyncDispose]();
      throw cause;
    }
    return started;
  }

  #add(name: string, server: RunningServer): ProcessNode {
    const client = new Holdfast({ url: server.url, apiKey: this.cluster.apiKey });
    const node = { name, server, client };
    this.nodes.push(node);
    return node;
  }

  async startNode(name: string): Promise<ProcessNode> {
    return this.#add(name, await this.#startServer(name));
  }

  async #startServer(name: string, earlier?: RunningServer): Promise<RunningServer> {
    const ports =
      earlier === undefined ? {} : { apiPort: Number(new URL(earlier.url).port), agentPort: earlier.agentPort };
    let starting: Program | undefined;
    const started = await this.cluster.startServer({
      name,
      onProgram: (program) => {
        starting = program;
        this.#starting.add(program);
        this.#options.onNode?.(program);
      },
      databaseUrl: this.database.url,
      masterKeyFile: join(this.cluster.folder, this.nodes[0]?.name ?? name, "master.key"),
      ...nodePlanOf(name, this.#options),
      ...ports,
    });
    if (starting !== undefined) this.#starting.delete(starting);
    return started;
  }

  /** Starts a node that has ended once more, on its ports. */
  async again(node: ProcessNode): Promise<void> {
    const { servers } = this.cluster;
    const at = servers.indexOf(node.server);
    if (at >= 0) servers.splice(at, 1);
    node.server = await this.#startServer(node.name, node.server);
  }

  named(name: string): ProcessNode {
    const found = this.nodes.find((node) => node.name === name);
    if (found === undefined) throw new Error(`no node ${name}`);
    return found;
  }

  /** A script that counts and writes down its own start. */
  async counting(
    through: ProcessNode,
    agent: string,
    plan: { readonly count: number; readonly pauseSeconds: number },
  ): Promise<Counted> {
    const truth = join(this.folder, `truth-${(this.#truths += 1)}`);
    const handle = await through.client.run({ on: agent, script: countingScript(truth, plan) });
    return { agent, id: handle.tasks[0]?.id ?? "", truth, count: plan.count };
  }

  /** Fails unless it succeeded, started once, and its log is every line once, in order. */
  async expectWhole({ id, truth, count, agent }: Counted, through: ProcessNode): Promise<void> {
    await this.finished(id, through);
    const handle: RunHandle = await through.client.tasks.follow(id);
    const { task, output } = await resultOf(handle);
    const seen = { agent, id, state: task.state, starts: startsIn(truth), attempts: task.attempts.length, output };
    const wanted = { agent, id, state: "succeeded", starts: 1, attempts: 1, output: countedLines(count) };
    if (JSON.stringify(seen) !== JSON.stringify(wanted)) throw new Error(`not whole: ${JSON.stringify(seen)}`);
  }

  /** A log is followed for as long as its task lives: this wait has an end. */
  async finished(id: string, through: ProcessNode): Promise<TaskView> {
    return await eventually(
      `task ${id} is final`,
      async () => {
        const view = await through.client.tasks.show(id);
        return { done: isFinal(view.state), state: view };
      },
      { limitMs: 60_000 },
    );
  }

  /** Waits until every agent has a session with each of these nodes. */
  async connected(names: readonly string[] = this.nodes.map(({ name }) => name)): Promise<void> {
    await eventually(
      `all agents are connected to ${names.join(", ")}`,
      async () => {
        const { items } = await this.anyClient().agents.list({ limit: 200 });
        const isConnected = items.every(({ nodes }) =>
          names.every((name) => nodes.some((node) => node.name === name && node.state === "connected")),
        );
        return { done: isConnected, state: items.map(({ name, nodes }) => [name, nodes]) };
      },
      { limitMs: 60_000 },
    );
  }

  anyClient(): Holdfast {
    const node = this.nodes.find(({ server }) => server.program.isRunning);
    if (node === undefined) throw new Error("no node runs");
    return node.client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster.stop();
    // A node that was starting when the test failed is in no list.
    for (const program of this.#starting) program.kill("SIGKILL");
    await Promise.all([...this.#starting].map(({ exited }) => exited));
    // Scripts of a test that failed may still write what they did.
    await rm(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    await this.database.drop();
  }
}

function nodePlanOf(name: string, { agentHost, environmentOf }: ProcessNodesOptions): Partial<ServerPlan> {
  return {
    ...(agentHost === undefined ? {} : { agentHost }),
    ...(environmentOf === undefined ? {} : { environment: environmentOf(name) }),
  };
}

async function resultOf(handle: RunHandle) {
  let output = "";
  for await (const { stream, text } of handle.log()) if (stream === "out") output += `${text}\n`;
  const [task] = await handle.results();
  if (task === undefined) throw new Error("the submission has no task");
  return { task, output };
}
