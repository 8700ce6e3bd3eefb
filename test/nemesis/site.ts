// What the nemesis attacks: nodes and agents as processes, each with its line to the database or to the nodes, a replicated
// PostgreSQL behind a forwarder per node, and small disks. A supervisor starts again what ended, as systemd would, unless a
// fault holds it down. Invariant: after disposal no process, namespace, mount or file of it is left, however far it came.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { registerAgent } from "../../agent/register.ts";
import { startServer, type Program, type RunningServer, type ServerPlan } from "../../demo/processes.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { favour } from "../harness/favour.ts";
import { pidsWith, signalAll } from "../harness/process.ts";
import { ReplicatedPostgres } from "../harness/replicated-postgres.ts";
import { SmallDisk } from "../harness/small-disk.ts";
import { DatabaseLines } from "./database-lines.ts";
import type { DatabaseDeath, Death } from "./history.ts";
import { AgentLines } from "./lines.ts";

export interface SiteOptions {
  readonly nodes: readonly [string, ...string[]];
  readonly agents: readonly string[];
  readonly smallDisks: readonly string[];
  readonly seed: number;
  readonly say: (line: string) => void;
}

export interface SiteNode {
  readonly name: string;
  readonly plan: ServerPlan;
  readonly agentPort: number;
  readonly client: Holdfast;
  /** Its own, of its line to the database. */
  readonly databasePort: number;
  program: Program;
}

interface NodeLine {
  readonly databasePort: number;
  readonly plan: Pick<ServerPlan, "name" | "onProgram"> & { readonly databaseUrl: string; readonly agentHost: string };
}

/** A client behind a load balancer gives up on a node that does not answer, and asks another. */
const answerMs = 10_000;
const superviseMs = 500;
const startedAtOnce = 4;
const connectedWithinMs = 300_000;

export class Site implements AsyncDisposable {
  readonly database: ReplicatedPostgres;
  readonly lines: AgentLines;
  readonly databaseLines: DatabaseLines;
  readonly nodes: SiteNode[] = [];
  readonly disks = new Map<string, SmallDisk>();
  /** Those that no fault asked for. */
  readonly deaths: Death[] = [];
  readonly databaseDeaths: DatabaseDeath[] = [];
  readonly folder: string;
  readonly #parts: AsyncDisposableStack;
  readonly #heldDown = new Set<string>();
  readonly #starting = new Set<Program>();
  readonly #options: SiteOptions;
  #cluster: TestCluster | undefined;
  #supervisor: NodeJS.Timeout | undefined;

  private constructor(
    parts: {
      readonly stack: AsyncDisposableStack;
      readonly database: ReplicatedPostgres;
      readonly lines: AgentLines;
      readonly databaseLines: DatabaseLines;
      readonly folder: string;
    },
    options: SiteOptions,
  ) {
    this.#parts = parts.stack;
    this.database = parts.database;
    this.lines = parts.lines;
    this.databaseLines = parts.databaseLines;
    this.folder = parts.folder;
    this.#options = options;
  }

  static async start(options: SiteOptions, signal: AbortSignal): Promise<Site> {
    const stack = new AsyncDisposableStack();
    try {
      const folder = await mkdtemp(join(tmpdir(), "holdfast-nemesis-"));
      stack.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));
      const lines = stack.use(await AgentLines.create(options.agents));
      const database = stack.use(await ReplicatedPostgres.start());
      const databaseLines = stack.use(await DatabaseLines.start(database.port));
      const site = new Site({ stack, database, lines, databaseLines, folder }, options);
      await site.#startAll(signal);
      return site;
    } catch (cause) {
      await stack.disposeAsync();
      throw cause;
    }
  }

  /** What nodes and agents have on disk is in one of these. */
  get folders(): readonly string[] {
    return [this.folder, this.#cluster?.folder].filter((folder) => folder !== undefined);
  }

  get agents(): readonly TestAgent[] {
    return this.#running.agents;
  }

  node(name: string): SiteNode {
    const found = this.nodes.find((node) => node.name === name);
    if (found === undefined) throw new Error(`no node ${name}`);
    return found;
  }

  agent(name: string): TestAgent {
    const found = this.agents.find((agent) => agent.name === name);
    if (found === undefined) throw new Error(`no agent ${name}`);
    return found;
  }

  /** kill -9 of a node or agent by its name; the supervisor leaves it down until the returned act. */
  async killProcess(name: string): Promise<() => void> {
    this.#heldDown.add(name);
    const { program } = this.#process(name);
    program.kill("SIGKILL");
    await program.exited;
    return () => void this.#heldDown.delete(name);
  }

  /** kill -9 of the primary, until the returned act has it back, or a new standby behind the one that took its place. */
  async killDatabase(next: "comes back" | "standby takes over"): Promise<() => Promise<void>> {
    const fromMs = Date.now();
    await (next === "comes back" ? this.database.kill() : this.database.promote());
    this.databaseDeaths.push({ fromMs, toMs: Date.now() });
    if (next === "comes back") return () => this.database.comeBack();
    await this.databaseLines.lead(this.database.port);
    return () => this.database.addStandby();
  }

  /** Stopped, not dead. A process that ended meanwhile is the supervisor's. */
  stopProcess(name: string): () => void {
    const { program } = this.#process(name);
    program.kill("SIGSTOP");
    return () => program.kill("SIGCONT");
  }

  /** Resolves once every agent has a session with every node. */
  async connected(signal: AbortSignal): Promise<void> {
    await eventually(
      "every agent is connected to every node",
      async () => {
        const { items } = await this.#running.client.agents.list({ limit: 200 });
        const missing = items.filter(({ connection }) => connection !== "fully");
        return { done: signal.aborted || missing.length === 0, state: missing.map(({ name, nodes }) => [name, nodes]) };
      },
      { limitMs: connectedWithinMs, everyMs: 500 },
    );
  }

  /** Ends what its scripts left too: they outlive their agents, and their command lines name the site's folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }

  get #running(): TestCluster {
    if (this.#cluster === undefined) throw new Error("no node was started");
    return this.#cluster;
  }

  #process(name: string): { readonly program: Program } {
    return this.nodes.find((node) => node.name === name) ?? this.agent(name);
  }

  async #startAll(signal: AbortSignal): Promise<void> {
    const { nodes, agents, smallDisks, say } = this.#options;
    const [first, ...others] = nodes;
    for (const agent of smallDisks) this.disks.set(agent, this.#parts.use(SmallDisk.mount(join(this.folder, agent))));
    this.#parts.defer(() => this.#endScripts());
    this.nodes.push(await this.#startFirstNode(first));
    this.nodes.push(...(await Promise.all(others.map((name) => this.#startNode(name)))));
    say(`${nodes.length} nodes serve`);
    // A few at a time: each is a process that starts.
    for (let at = 0; at < agents.length && !signal.aborted; at += startedAtOnce)
      await Promise.all(agents.slice(at, at + startedAtOnce).map((name) => this.#addAgent(name)));
    await this.connected(signal);
    say(`${agents.length} agents are connected`);
    this.#supervisor = setInterval(() => this.#supervise(), superviseMs);
    this.#parts.defer(() => clearInterval(this.#supervisor));
  }

  /** It makes the database's tables, the cluster's authorities and the key that all are asked with. */
  async #startFirstNode(name: string): Promise<SiteNode> {
    const line = await this.#lineOf(name);
    const cluster = await TestCluster.start(line.plan);
    this.#cluster = cluster;
    this.#parts.defer(() => this.#stopAll(cluster));
    return this.#nodeOf(cluster.server, line);
  }

  async #startNode(name: string): Promise<SiteNode> {
    const line = await this.#lineOf(name);
    const masterKeyFile = this.#masterKeyFile;
    return this.#nodeOf(await this.#running.startServer({ ...line.plan, masterKeyFile }), line);
  }

  async #lineOf(name: string): Promise<NodeLine> {
    const databasePort = await this.databaseLines.listen(this.#options.seed);
    const databaseUrl = new URL(this.database.url);
    databaseUrl.port = String(databasePort);
    const onProgram = ({ pid }: Program): void => favour(pid);
    return { databasePort, plan: { name, databaseUrl: databaseUrl.href, agentHost: this.lines.host, onProgram } };
  }

  #nodeOf({ url, agentPort, program }: RunningServer, { databasePort, plan: given }: NodeLine): SiteNode {
    const { name } = given;
    const client = new Holdfast({ url, apiKey: this.#running.apiKey, retryForMs: 0, answerMs });
    const apiPort = Number(new URL(url).port);
    const dataDirectory = join(this.#running.folder, name);
    const plan = { ...given, dataDirectory, masterKeyFile: this.#masterKeyFile, apiPort, agentPort };
    return { name, plan, agentPort, client, databasePort, program };
  }

  get #masterKeyFile(): string {
    return join(this.#running.folder, this.#options.nodes[0], "master.key");
  }

  /** Registered from here: a command line for each would be one more program to start. */
  async #addAgent(name: string): Promise<void> {
    const cluster = this.#running;
    const disk = this.disks.get(name);
    const dataDirectory = join(disk?.path ?? cluster.folder, disk === undefined ? name : "agent");
    const { token } = await cluster.client.tokens.create({});
    await registerAgent({ server: cluster.server.url, token, name, dataPath: dataDirectory });
    cluster.startRegistered({ name, dataDirectory, wrapper: this.lines.wrapperOf(name) });
  }

  #supervise(): void {
    for (const node of this.nodes) {
      if (node.program.isRunning || this.#heldDown.has(node.name)) continue;
      this.#mourn(node.name, node.program);
      this.#startAgain(node);
    }
    for (const agent of this.agents) {
      if (agent.program.isRunning || this.#heldDown.has(agent.name)) continue;
      this.#mourn(agent.name, agent.program);
      this.#running.startAgentAgain(agent);
    }
  }

  /** It counts as running from its first moment: one that cannot start yet ends, and comes here again. */
  #startAgain(node: SiteNode): void {
    let started: Program | undefined;
    const onProgram = (program: Program): void => {
      started = node.program = program;
      favour(program.pid);
      this.#starting.add(program);
    };
    startServer({ ...node.plan, onProgram }).catch(() => started?.kill("SIGKILL"));
  }

  /** SIGKILL is this program's own. */
  #mourn(name: string, program: Program): void {
    void program.exited.then((code) => {
      if (code !== null) this.deaths.push({ name, exitCode: code, lastWords: lastWordsOf(program) });
    });
  }

  async #stopAll(cluster: TestCluster): Promise<void> {
    clearInterval(this.#supervisor);
    await cluster.stop();
    const left = [...this.#starting, ...this.nodes.map(({ program }) => program)];
    await Promise.all(left.map((program) => program.stop(5_000)));
  }

  async #endScripts(): Promise<void> {
    await eventually("no script of the site runs", () => {
      const left = this.folders.flatMap((folder) => pidsWith(folder)).filter((pid) => pid !== process.pid);
      signalAll(left, "SIGKILL");
      return { done: left.length === 0, state: left };
    });
  }
}

/** The message of a line of log, else the line. */
function lastWordsOf({ output }: Program): string {
  const line = output.trim().split("\n").at(-1) ?? "";
  return (/"msg":("(?:[^"\\]|\\.)*")/.exec(line)?.[1] ?? line).slice(0, 300);
}
