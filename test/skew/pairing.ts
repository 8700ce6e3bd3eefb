// One node and one agent, each of a version of its own, on a database of their own, and what every pairing must do: scripts
// whole, ends that are asked for, and the deaths of either while a script runs. The truth is what the scripts wrote.
import { join } from "node:path";
import { inject } from "vitest";
import type { RunningServer } from "../../demo/processes.ts";
import type { RunHandle } from "../../sdk/run-handle.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import type { TaskView } from "../../shared/api/tasks.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { createDatabase, type TestDatabase } from "../harness/postgres.ts";
import { countedLines, countingScript, startsIn } from "../harness/script-truth.ts";
import type { Checkout } from "./checkout.ts";

/** Undefined: today's. */
export type Version = Pick<Checkout, "root"> | undefined;

export interface Counted {
  readonly id: string;
  readonly handle: RunHandle;
  readonly truth: string;
  readonly count: number;
}

const exitCode = 3;

export class Pairing implements AsyncDisposable {
  readonly cluster: TestCluster;
  readonly database: TestDatabase;
  readonly #node: Version;
  #truths = 0;

  private constructor(cluster: TestCluster, parts: { readonly database: TestDatabase; readonly node: Version }) {
    this.cluster = cluster;
    this.database = parts.database;
    this.#node = parts.node;
  }

  static async start(versions: { readonly node: Version; readonly agent: Version }): Promise<Pairing> {
    const database = await createDatabase(inject("databaseUrl"), "empty");
    const cluster = await TestCluster.start({ databaseUrl: database.url, ...rootOf(versions.node) });
    const pairing = new Pairing(cluster, { database, node: versions.node });
    try {
      await cluster.startAgent({ name: "web-01", ...rootOf(versions.agent) });
    } catch (cause) {
      await pairing[Symbol.asyncDispose]();
      throw cause;
    }
    return pairing;
  }

  get client(): Holdfast {
    return this.cluster.client;
  }

  get agent(): TestAgent {
    const [agent] = this.cluster.agents;
    if (agent === undefined) throw new Error("no agent");
    return agent;
  }

  /** Has begun when this resolves. */
  async counting(count: number, pauseSeconds: number, agent = this.agent.name): Promise<Counted> {
    const truth = join(this.cluster.folder, `truth-${(this.#truths += 1)}`);
    const handle = await this.client.run({
      on: agent,
      script: countingScript(truth, { count, pauseSeconds, exitCode }),
    });
    await eventually("the script runs", () => ({ done: startsIn(truth) > 0, state: truth }));
    return { id: handle.tasks[0]?.id ?? "", handle, truth, count };
  }

  /** What came of it, beside {@link wholeOf}. */
  async seenOf({ id, truth }: Counted): Promise<unknown> {
    const { state, exitCode: code, attempts } = await this.cluster.finished(id);
    return { state, exitCode: code, attempts: attempts.length, starts: startsIn(truth), output: await this.outputOf(id) };
  }

  async outputOf(id: string): Promise<string> {
    let output = "";
    const decoder = new TextDecoder();
    for await (const bytes of this.client.tasks.log(id, { stream: "out" })) output += decoder.decode(bytes, { stream: true });
    return output;
  }

  async restartNode(version: Version = this.#node): Promise<void> {
    const { url, agentPort } = this.cluster.server;
    await this.cluster.server.program.stop();
    const server: RunningServer = await this.cluster.startServer({
      name: "node-a",
      databaseUrl: this.database.url,
      apiPort: Number(new URL(url).port),
      agentPort,
      ...rootOf(version),
    });
    this.cluster.servers.splice(0, 2, server);
  }

  /** Starts the agent again, which has ended, as this version. */
  async restartAgentAs(version: Version): Promise<void> {
    const { root: _, ...plan } = this.agent.plan;
    this.agent.plan = { ...plan, ...rootOf(version) };
    await this.cluster.restartAgent(this.agent);
  }

  async view(id: string): Promise<TaskView> {
    return await this.client.tasks.show(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster.stop();
    await this.database.drop();
  }
}

/** One start, one attempt, each line once and in order, its own exit code. */
export function wholeOf({ count }: Counted): unknown {
  return { state: "failed", exitCode, attempts: 1, starts: 1, output: countedLines(count) };
}

function rootOf(version: Version): { readonly root?: string } {
  return version === undefined ? {} : { root: version.root };
}
