// An agent in the test's own process, enrolled over HTTP at a real node. Its data directory lies in the node's folder and
// goes with it; its scripts are the test's to end.
import { join } from "node:path";
import { createAgent, type Agent, type AgentDeps, type AgentOptions } from "../../agent/agent.ts";
import { registerAgent } from "../../agent/register.ts";
import type { Labels } from "../../shared/task.ts";
import { eventually } from "./eventually.ts";
import { startTestNode, type TestNode } from "./node.ts";

export interface EnrolPlan {
  readonly name: string;
  readonly labels?: Labels;
}

/** Enrols without starting; resolves with the data directory. */
export async function enrol(node: TestNode, { name, labels = {} }: EnrolPlan): Promise<string> {
  const { token } = await node.client.tokens.create({});
  const dataPath = join(node.folder, "agents", name);
  await registerAgent({ server: node.url, token, name, labels, dataPath });
  return dataPath;
}

/** A node and the agents of one test, so that several may go on side by side; ends all of them in order. */
export class TestSite implements AsyncDisposable {
  readonly node: TestNode;
  readonly #agents: Agent[] = [];

  private constructor(node: TestNode) {
    this.node = node;
  }

  static async start(options: Parameters<typeof startTestNode>[0] = {}): Promise<TestSite> {
    return new TestSite(await startTestNode(options));
  }

  enrol(name: string): Promise<string> {
    return enrol(this.node, { name });
  }

  async startAgent(dataPath: string, deps: AgentDeps = {}): Promise<Agent> {
    const agent = await startAgentOn(dataPath, deps);
    this.#agents.push(agent);
    return agent;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) await agent.stop();
    await this.node.stop();
  }
}

/** Starts an agent on a data directory and waits for nothing. */
export async function startAgentOn(
  dataPath: string,
  deps: AgentDeps = {},
  options: Partial<AgentOptions> = {},
): Promise<Agent> {
  const agent = createAgent({ dataPath, reserveBytes: 0, ...options }, deps);
  await agent.start();
  return agent;
}

export async function connected(node: TestNode, name: string): Promise<void> {
  await eventually(`agent ${name} is connected`, async () => {
    const view = await node.client.agents.show(name);
    return { done: view.connection === "fully", state: view };
  });
}
