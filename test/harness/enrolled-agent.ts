// An agent in the test's own process, enrolled over HTTP at a real node. Its data directory lies in the node's folder and
// goes with it; its scripts are the test's to end.
import { join } from "node:path";
import { createAgent, type Agent, type AgentDeps, type AgentOptions } from "../../agent/agent.ts";
import { registerAgent } from "../../agent/register.ts";
import type { Labels } from "../../shared/task.ts";
import { eventually } from "./eventually.ts";
import type { TestNode } from "./node.ts";

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
