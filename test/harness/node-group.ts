// Several nodes on one database in the test's own process, and agents enrolled with all of them. Ends all of them in order.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Agent, AgentDeps } from "../../agent/agent.ts";
import { registerAgent } from "../../agent/register.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import { startNode, type HoldfastNode, type NodeDeps, type NodeOptions } from "../../server/node.ts";
import { silentLogger } from "../../shared/logger.ts";
import { startAgentOn } from "./enrolled-agent.ts";
import { eventually } from "./eventually.ts";
import { startTestNode, type TestNode } from "./node.ts";

export interface GroupNode {
  readonly name: string;
  readonly node: HoldfastNode;
  readonly url: string;
  readonly client: Holdfast;
}

export interface RunningTask {
  readonly id: string;
  end(): Promise<void>;
}

export class NodeGroup implements AsyncDisposable {
  readonly first: TestNode;
  readonly nodes: GroupNode[] = [];
  readonly agents: Agent[] = [];
  readonly #options: Partial<NodeOptions>;
  #flags = 0;

  private constructor(first: TestNode, options: Partial<NodeOptions>) {
    this.first = first;
    this.#options = options;
  }

  /** `node-a` and the named others, each with these options. */
  static async start(names: readonly string[], options: Partial<NodeOptions> = {}): Promise<NodeGroup> {
    const group = new NodeGroup(await startTestNode(options), options);
    const { node, url, client } = group.first;
    group.nodes.push({ name: "node-a", node, url, client });
    try {
      for (const name of names) await group.add(name);
    } catch (cause) {
      await group[Symbol.asyncDispose]();
      throw cause;
    }
    return group;
  }

  named(name: string): GroupNode {
    const found = this.nodes.find((one) => one.name === name);
    if (found === undefined) throw new Error(`no node ${name}`);
    return found;
  }

  get client(): Holdfast {
    return this.first.client;
  }

  directoryOf(name: string): string {
    return join(this.first.folder, `node-${name}`);
  }

  /** Starts a node in the data directory of its name, again or for the first time. */
  async add(name: string, options: Partial<NodeOptions> = {}, deps: Partial<NodeDeps> = {}): Promise<GroupNode> {
    const dataDirectory = this.directoryOf(name);
    await mkdir(dataDirectory, { recursive: true });
    const loopback = { host: "127.0.0.1", port: 0 };
    const node = await startNode(
      { logger: silentLogger, ...deps },
      {
        dataDirectory,
        databaseUrl: this.first.databaseUrl,
        masterKeyFile: join(this.first.folder, "master.key"),
        name,
        version: "0.0.0-test",
        apiListen: loopback,
        agentListen: loopback,
        ...this.#options,
        ...options,
      },
    );
    const url = `http://127.0.0.1:${node.apiAddress.port}`;
    const client = new Holdfast({ url, apiKey: this.first.apiKey, retryForMs: 2_000 });
    const started = { name, node, url, client };
    this.nodes.push(started);
    return started;
  }

  /** Stops it as a signal would; {@link add} starts it again. */
  async stop(name: string): Promise<void> {
    const found = this.named(name);
    await found.node.stop();
    this.nodes.splice(this.nodes.indexOf(found), 1);
  }

  /** Enrols an agent, starts it and waits until every listed node has a session with it. */
  async startAgent(name: string, deps: AgentDeps = {}): Promise<Agent> {
    const { token } = await this.client.tokens.create({});
    const dataPath = join(this.first.folder, "agents", name);
    await registerAgent({ server: this.first.url, token, name, dataPath });
    const agent = await startAgentOn(dataPath, deps);
    this.agents.push(agent);
    await this.connectedTo(
      name,
      this.nodes.map((node) => node.name),
    );
    return agent;
  }

  /**
   * Waits until exactly these nodes have a session with the agent.
   * A dial that was refused a moment before its node would have taken it is repeated within half a minute.
   */
  async connectedTo(agent: string, nodes: readonly string[]): Promise<void> {
    await eventually(
      `agent ${agent} is connected to ${nodes.join(", ")} only`,
      async () => {
        const view = await this.client.agents.show(agent);
        const names = view.nodes.filter(({ state }) => state === "connected").map(({ name }) => name);
        return { done: names.toSorted().join() === nodes.toSorted().join(), state: view };
      },
      { limitMs: 60_000 },
    );
  }

  async reaches(task: string, state: string): Promise<void> {
    await eventually(`task ${task} is ${state}`, async () => {
      const view = await this.client.tasks.show(task);
      return { done: view.state === state, state: view };
    });
  }

  /** The home moves by a durable write of the node that takes it, which may come after the other one's session has ended. */
  async flowsThrough(task: string, nodes: readonly string[]): Promise<void> {
    await eventually(`task ${task} flows through ${nodes.join(" or ")}`, async () => {
      const { home } = await this.client.tasks.show(task);
      return { done: home !== null && nodes.includes(home), state: home };
    });
  }

  /** A task whose script runs until it is told to end; resolves once it runs. */
  async running(on: string, through = this.client): Promise<RunningTask> {
    const flag = join(this.first.folder, `end-${(this.#flags += 1)}`);
    const script = `echo up; until [ -e '${flag}' ] || [ ! -d '${this.first.folder}' ]; do sleep 0.05; done; echo down`;
    const handle = await through.run({ on, script, graceMs: 500 });
    const id = handle.tasks[0]?.id ?? "";
    await this.reaches(id, "running");
    return { id, end: () => writeFile(flag, "") };
  }

  /** One that flows through this node: a session that has just opened has no credit yet, and another node takes the task. */
  async runningThrough(node: string, on: string): Promise<RunningTask> {
    return await eventually(`a task flows through ${node}`, async () => {
      const task = await this.running(on, this.named(node).client);
      const { home } = await this.client.tasks.show(task.id);
      if (home !== node) await task.end();
      return { done: home === node, state: task };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.agents) await agent.stop();
    for (const { node } of this.nodes.toReversed()) await node.stop();
    await this.first.stop();
  }
}
