// Real nodes and agents as processes, in a temporary folder, driven through the SDK. Everything started here is ended by
// `stop`, and a wait that fails prints what the processes said.
import { readFileSync, readlinkSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Program, runProgram, startServer, type RunningServer, type ServerPlan } from "../../demo/processes.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import type { TaskView } from "../../shared/api/tasks.ts";
import { isFinal } from "../../shared/task.ts";
import { eventually } from "./eventually.ts";

export interface TestAgent {
  readonly name: string;
  readonly dataDirectory: string;
  /** Of the process that runs now, and of the next. */
  plan: AgentPlan;
  program: Program;
}

export interface AgentPlan {
  readonly name: string;
  readonly labels?: readonly string[];
  readonly dataDirectory?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Put in front of `agent run`: a network of its own, say. */
  readonly wrapper?: readonly string[];
  /** The checkout whose program registers and runs. Default: this one. */
  readonly root?: string;
}

export class TestCluster {
  readonly folder: string;
  readonly servers: RunningServer[] = [];
  readonly agents: TestAgent[] = [];
  #client: Holdfast | undefined;
  apiKey = "";

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** One node with embedded PostgreSQL unless the plan says otherwise. */
  static async start(plan: Partial<ServerPlan> = {}): Promise<TestCluster> {
    const cluster = new TestCluster(await mkdtemp(join(tmpdir(), "holdfast-test-")));
    try {
      await cluster.startServer(plan);
    } catch (cause) {
      await cluster.stop();
      throw cause;
    }
    return cluster;
  }

  get server(): RunningServer {
    const [server] = this.servers;
    if (server === undefined) throw new Error("no server was started");
    return server;
  }

  get client(): Holdfast {
    if (this.#client === undefined) throw new Error("no server was started");
    return this.#client;
  }

  get serverData(): string {
    return join(this.folder, "node-a");
  }

  /** The embedded PostgreSQL's postmaster; it outlives a killed server. Undefined when none was ever started. */
  get postmasterPid(): number | undefined {
    try {
      const file = readFileSync(join(this.serverData, "postgres", "cluster", "postmaster.pid"), "utf8");
      return Number(file.split("\n", 1)[0]);
    } catch {
      return undefined;
    }
  }

  async databaseUrl(): Promise<string> {
    return (await readFile(join(this.serverData, "database-url"), "utf8")).trim();
  }

  async startServer(plan: Partial<ServerPlan> = {}): Promise<RunningServer> {
    const name = plan.name ?? "node-a";
    let starting: Program | undefined;
    const onProgram = (program: Program): void => {
      starting = program;
      plan.onProgram?.(program);
    };
    let server: RunningServer;
    try {
      server = await startServer({ name, dataDirectory: join(this.folder, name), ...plan, onProgram });
    } catch (cause) {
      // It is in no list yet, and would outlive the test.
      await starting?.stop();
      throw cause;
    }
    this.servers.push(server);
    if (this.#client === undefined) {
      this.apiKey = (await readFile(join(this.folder, name, "admin-api-key"), "utf8")).trim();
      this.#client = new Holdfast({ url: server.url, apiKey: this.apiKey });
    }
    return server;
  }

  /** The first node again, on the same ports, as a supervisor would. */
  async restartServer(): Promise<RunningServer> {
    const { url, agentPort } = this.server;
    const plan = { name: "node-a", dataDirectory: this.serverData, apiPort: Number(new URL(url).port), agentPort };
    const server = await startServer(plan);
    this.servers[0] = server;
    return server;
  }

  cli(...args: string[]): Promise<{ readonly exitCode: number | null; readonly output: string }> {
    return this.#cli({}, args);
  }

  #cli({ root }: Pick<AgentPlan, "root">, args: readonly string[]): ReturnType<typeof runProgram> {
    const environment = { HOLDFAST_URL: this.server.url, HOLDFAST_API_KEY: this.apiKey };
    return runProgram({ title: `holdfast ${args[0]}`, args, environment, ...(root === undefined ? {} : { root }) });
  }

  /** Enrols an agent, starts it and waits until every node has a session with it. */
  async startAgent(plan: AgentPlan): Promise<TestAgent> {
    const agent = await this.#enrolAndStart(plan, ["--all-nodes"]);
    await this.connected(agent.name);
    return agent;
  }

  /** Among nodes that may be dying: one is enough to enrol, and no session is waited for. */
  startAgentAmong(plan: AgentPlan): Promise<TestAgent> {
    return this.#enrolAndStart(plan, []);
  }

  async #enrolAndStart(plan: AgentPlan, reach: readonly string[]): Promise<TestAgent> {
    const { name, labels = [], dataDirectory = join(this.folder, name) } = plan;
    const { token } = await this.client.tokens.create({});
    const labelFlags = labels.flatMap((label) => ["--label", label]);
    const place = ["--name", name, "--data-dir", dataDirectory, ...labelFlags];
    const given = ["--server", this.server.url, "--token", token, ...reach, ...place];
    const registered = await this.#cli(plan, ["agent", "register", ...given]);
    if (registered.exitCode !== 0) throw new Error(`register ${name}: ${registered.exitCode}\n${registered.output}`);
    return this.startRegistered({ ...plan, dataDirectory });
  }

  /** Starts one that is registered already, and waits for nothing. */
  startRegistered(plan: AgentPlan & { readonly dataDirectory: string }): TestAgent {
    const { name, dataDirectory } = plan;
    const agent = { name, dataDirectory, plan, program: this.#runAgent(plan, dataDirectory) };
    this.agents.push(agent);
    return agent;
  }

  /** The same agent once more, after its process has ended. */
  async restartAgent(agent: TestAgent): Promise<void> {
    this.startAgentAgain(agent);
    // Its own word first: for a moment the server may still show the session of the process before.
    await agent.program.says(/session open/);
    await this.connected(agent.name);
  }

  /** Starts it and waits for nothing. */
  startAgentAgain(agent: TestAgent): void {
    agent.program = this.#runAgent(agent.plan, agent.dataDirectory);
  }

  /** By default a minute: one that dialled in vain may pause for 30 s, and a dial may take 10 s. */
  async connected(name: string, { limitMs = 60_000 }: { readonly limitMs?: number } = {}): Promise<void> {
    await eventually(
      `agent ${name} is fully connected`,
      async () => {
        const view = await this.client.agents.show(name);
        return { done: view.connection === "fully", state: view };
      },
      { limitMs },
    );
  }

  async task(id: string): Promise<TaskView> {
    return await this.client.tasks.show(id);
  }

  async finished(id: string, limitMs = 60_000): Promise<TaskView> {
    return await eventually(
      `task ${id} is final`,
      async () => {
        const view = await this.task(id);
        return { done: isFinal(view.state), state: view };
      },
      { limitMs },
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.agents.map((agent) => agent.program.stop()));
    for (const server of this.servers.toReversed()) await server.program.stop();
    this.#endLeftPostgres();
    // A database that was left running may still be writing its last files.
    await rm(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }

  /** A test that failed between killing a server and starting it again leaves its database running. */
  #endLeftPostgres(): void {
    const pid = this.postmasterPid;
    if (pid !== undefined && readlinkSync(`/proc/${pid}/cwd`).startsWith(this.folder)) process.kill(pid, "SIGQUIT");
  }

  #runAgent(plan: AgentPlan, dataDirectory: string): Program {
    return new Program({
      title: `agent ${plan.name}`,
      args: ["agent", "run", "--data-dir", dataDirectory],
      ...(plan.environment === undefined ? {} : { environment: plan.environment }),
      ...(plan.wrapper === undefined ? {} : { wrapper: plan.wrapper }),
      ...(plan.root === undefined ? {} : { root: plan.root }),
    });
  }
}
