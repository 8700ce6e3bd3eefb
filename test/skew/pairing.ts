// One node and one agent, each of a version of its own, on a database of their own, and what every pairing must do: scripts
// whole, ends that are asked for, and the deaths of either while a script runs. The truth is what the scripts wrote.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inject } from "vitest";
import type { RunningServer } from "../../demo/processes.ts";
import type { RunHandle } from "../../sdk/run-handle.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import type { TaskView } from "../../shared/api/tasks.ts";
import { isFinal } from "../../shared/task.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { createDatabase, type TestDatabase } from "../harness/postgres.ts";
import { countedLines, startsIn } from "../harness/script-truth.ts";
import type { Checkout } from "./checkout.ts";

export interface AddedNode {
  readonly server: RunningServer;
  readonly client: Holdfast;
}

/** Undefined: today's. */
export type Version = Pick<Checkout, "root"> | undefined;

export interface Counted {
  readonly id: string;
  readonly handle: RunHandle;
  readonly truth: string;
}

export interface CountingOptions {
  readonly through?: Holdfast;
  readonly agent?: string;
  /** What it does once it was told to end. Default: exits with 3. */
  readonly last?: string;
  readonly timeoutMs?: number;
  readonly graceMs?: number;
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

  /** Counts until it is told to end, and has begun when this resolves. Tells its progress where the agent takes it. */
  async counting(options: CountingOptions = {}): Promise<Counted> {
    const { through = this.client, agent = "web-01", last = `exit ${exitCode}`, ...limits } = options;
    const truth = join(this.cluster.folder, `truth-${(this.#truths += 1)}`);
    // Nobody writes into its descriptor 9: bash itself waits, where a `sleep` for each line would cost a process.
    const script = `exec 9<> <(:)
      echo "start $HOLDFAST_ATTEMPT_ID" >> '${truth}'
      ! command -v holdfast-progress > /dev/null || holdfast-progress 50 counting
      for ((i = 1; ; i++)); do echo "line $i"; [ ! -e '${truth}.go' ] || break; read -r -t 0.05 -u 9; done
      echo "counted $i" >> '${truth}'
      ${last}`;
    const handle = await through.run({ on: agent, script, ...limits });
    await eventually("the script runs", () => ({ done: startsIn(truth) > 0, state: truth }));
    return { id: handle.tasks[0]?.id ?? "", handle, truth };
  }

  /** Resolves when the script itself has counted to its end, whoever hears of it. */
  async finish({ truth }: Counted): Promise<void> {
    writeFileSync(`${truth}.go`, "");
    await eventually("the script has counted", () => {
      const text = readFileSync(truth, "utf8");
      return { done: text.includes("counted"), state: text };
    });
  }

  /** What came of it, beside {@link wholeOf}. */
  async seenOf({ id, truth }: Counted, through: Holdfast = this.client): Promise<unknown> {
    const {
      state,
      exitCode: code,
      attempts,
    } = await eventually(`task ${id} is final`, async () => {
      const view = await through.tasks.show(id);
      return { done: isFinal(view.state), state: view };
    });
    let output = "";
    const decoder = new TextDecoder();
    for await (const bytes of through.tasks.log(id, { stream: "out" }))
      output += decoder.decode(bytes, { stream: true });
    return { state, exitCode: code, attempts: attempts.length, starts: startsIn(truth), output };
  }

  /** Another node on the same database. */
  async addNode(name: string, version: Version): Promise<AddedNode> {
    const masterKeyFile = join(this.cluster.folder, "node-a", "master.key");
    const plan = { name, databaseUrl: this.database.url, masterKeyFile, ...rootOf(version) };
    const server = await this.cluster.startServer(plan);
    return { server, client: new Holdfast({ url: server.url, apiKey: this.cluster.apiKey }) };
  }

  /** Starts the node again, which has ended, on its ports. */
  async restartNode(version: Version = this.#node): Promise<void> {
    const { url, agentPort } = this.cluster.server;
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
export function wholeOf({ truth }: Counted): unknown {
  const count = Number(/counted (\d+)/.exec(readFileSync(truth, "utf8"))?.[1]);
  return { state: "failed", exitCode, attempts: 1, starts: 1, output: countedLines(count) };
}

function rootOf(version: Version): { readonly root?: string } {
  return version === undefined ? {} : { root: version.root };
}
