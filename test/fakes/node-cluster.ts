// An agent with its identity in a fresh folder, fake nodes that know it, and an end that leaves nothing behind.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createAgent } from "../../agent/agent.ts";
import type { Agent, AgentDeps, AgentOptions } from "../../agent/agent.ts";
import { AttemptFolder } from "../../agent/attempt-folder.ts";
import { storeIdentity } from "../../agent/identity.ts";
import { scanJournal } from "../../agent/journal-frame.ts";
import { decodeRecord, type JournalRecord } from "../../agent/journal-record.ts";
import { listProcesses } from "../../agent/process-table.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { createLogger } from "../../shared/logger.ts";
import type { NodeList } from "../../shared/wire/nodes.ts";
import { createTestAuthorities } from "../harness/certs.ts";
import type { TestAuthorities } from "../harness/certs.ts";
import { eventually } from "../harness/eventually.ts";
import { scratchParent } from "../harness/scratch.ts";
import { FakeNode, FakeStore } from "./node-server.ts";
import type { FakeNodeOptions } from "./node-server.ts";

/** As bin/holdfast sets it: an agent process that is started many times does not compile itself each time. */
const compileCache = join(import.meta.dirname, "../../node_modules/.cache/holdfast");

export class AgentBench {
  readonly store = new FakeStore();
  readonly authorities: TestAuthorities = createTestAuthorities();
  readonly nodes: FakeNode[] = [];
  readonly #closers: (() => Promise<void>)[] = [];
  folder = "";

  /** `nodes` fake nodes, all in each other's list, and an identity whose seed is the first. */
  async start(
    nodes = 1,
    options: Partial<FakeNodeOptions> & { readonly parent?: string; readonly lifetimeMs?: number } = {},
  ): Promise<void> {
    const { parent, lifetimeMs, ...nodeOptions } = options;
    this.folder = await mkdtemp(join(parent ?? scratchParent(), "holdfast-agent-"));
    const list = (): NodeList => ({ version: 1, want: 0, nodes: this.nodes.map((node) => node.listed()) });
    for (let no = 0; no < nodes; no += 1) {
      const node = new FakeNode({
        authorities: this.authorities,
        store: this.store,
        name: `node-${no}`,
        list,
        ...nodeOptions,
      });
      await node.start();
      this.nodes.push(node);
    }
    const leaf = this.authorities.agentLeaf({ lifetimeMs: lifetimeMs ?? 3_600_000 });
    await storeIdentity(this.folder, {
      cluster: this.authorities.cluster,
      agentId: leaf.agentId,
      name: "web-01",
      labels: {},
      agentsCa: [this.authorities.agents.certificatePem],
      nodesCa: [this.authorities.nodes.certificatePem],
      seeds: [this.node.address],
      key: leaf.privateKeyPem,
      certificate: leaf.certificatePem,
    });
  }

  get node(): FakeNode {
    const [node] = this.nodes;
    if (node === undefined) throw new Error("no node was started");
    return node;
  }

  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  attemptFolder(attempt: AttemptId): AttemptFolder {
    return new AttemptFolder({ attemptsPath: this.path("attempts"), attempt });
  }

  /** Waits until the journal on disk holds a record of that kind. */
  async journaled(kind: JournalRecord["kind"]): Promise<void> {
    await eventually(`${kind} is in the journal`, async () => {
      const { payloads } = scanJournal(await readFile(this.path("journal")));
      const kinds = payloads.map((payload) => decodeRecord(payload).kind);
      return { done: kinds.includes(kind), state: kinds.at(-1) };
    });
  }

  /** An agent in this process; stopped by {@link stop}. */
  async agent(options: Partial<AgentOptions> = {}, deps: AgentDeps = {}): Promise<Agent> {
    const logger = createLogger({ level: process.env["HOLDFAST_TEST_LOG"] === "1" ? "debug" : "silent" });
    const agent = createAgent({ dataPath: this.folder, reserveBytes: 0, ...options }, { logger, ...deps });
    await agent.start();
    this.#closers.push(() => agent.stop());
    return agent;
  }

  /** An agent in a process of its own, which may be killed. */
  process(): ChildProcess {
    const main = new URL("../../agent/main.ts", import.meta.url).href;
    const level = process.env["HOLDFAST_TEST_LOG"] === "1" ? "debug" : "silent";
    const code = `import { runAgent } from ${JSON.stringify(main)}; process.exit(await runAgent({ dataPath: ${JSON.stringify(this.folder)}, slots: 10, logLevel: "${level}" }));`;
    const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", code], {
      stdio: ["ignore", "inherit", "inherit"],
      env: { NODE_COMPILE_CACHE: compileCache, ...process.env },
      detached: true,
    });
    this.#closers.push(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    });
    return child;
  }

  async kill(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  }

  /** Lines of a file that scripts append to: the ground truth. */
  async truth(name: string): Promise<string[]> {
    const text = await readFile(this.path(name), "utf8").catch(() => "");
    return text.split("\n").filter((line) => line !== "");
  }

  /** Ends everything, scripts included. Throws when the agent broke a rule of the protocol. */
  async stop(): Promise<void> {
    for (const close of this.#closers.splice(0).toReversed()) await close();
    for (const node of this.nodes) await node.stop();
    for (const { pid } of listProcesses()) {
      const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
      if (pid !== process.pid && environment.includes("HOLDFAST_ATTEMPT_ID=") && this.#isOurs(environment))
        process.kill(pid, "SIGKILL");
    }
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
    const breaches = this.store.breaches.splice(0);
    if (breaches.length > 0) throw new Error(`the agent broke the protocol: ${breaches.join("; ")}`);
  }

  #isOurs(environment: string): boolean {
    return [...this.store.rows.keys()].some((attempt) => environment.includes(`HOLDFAST_ATTEMPT_ID=${attempt}`));
  }
}
