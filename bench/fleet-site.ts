// What the benches of many connections stand on: PostgreSQL that belongs to the bench, one real node that can be ended and
// started again on the same ports, fleets and bare servers as processes of their own. Everything ends with `end`.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { startServer, type RunningServer } from "../demo/processes.ts";
import { EmbeddedPostgres } from "../server/store/embedded.ts";
import { systemClock as clock } from "../shared/clock.ts";
import { silentLogger as logger } from "../shared/logger.ts";
import { SystemRandom } from "../shared/random.ts";
import type { FleetQuestion } from "./agent-fleet.ts";
import type { FleetOptions, FleetState } from "./fleet.ts";
import { enrolFleet } from "./fleet-plan.ts";

const random = new SystemRandom();

/** Dials under way while a fleet connects at leisure: as many as a node judges at once, so that none is held back. */
export const dialsAtOnce = 64;

/** Sizes to measure, unless HOLDFAST_AGENTS names others: `50` or `50,100`. */
export function agentCounts(usual: readonly number[]): readonly number[] {
  const asked = process.env["HOLDFAST_AGENTS"];
  return asked === undefined ? usual : asked.split(",").map(Number);
}

export interface FleetAnswer extends FleetState {
  /** What `start` took. */
  readonly tookMs?: number;
}

export class FleetSite {
  readonly #folder: string;
  readonly #postgres: EmbeddedPostgres;
  readonly #children: ChildProcess[] = [];
  readonly database: Client;
  #node: RunningServer | undefined;
  #apiKey = "";

  private constructor(folder: string, postgres: EmbeddedPostgres) {
    this.#folder = folder;
    this.#postgres = postgres;
    this.database = new Client({ connectionString: postgres.url });
  }

  /** With a node that serves and this many agents enrolled. */
  static async create(agents: number): Promise<FleetSite> {
    checkDescriptors(agents);
    const folder = await mkdtemp(join(tmpdir(), "holdfast-fleet-"));
    const dataDirectory = join(folder, "database");
    const postgres = new EmbeddedPostgres({ clock, random, logger }, { dataDirectory });
    await postgres.start();
    const site = new FleetSite(folder, postgres);
    try {
      await site.database.connect();
      await site.startNode();
      site.#apiKey = (await readFile(join(folder, "node", "admin-api-key"), "utf8")).trim();
      const masterKeyFile = join(folder, "node", "master.key");
      const plan = await enrolFleet({ databaseUrl: postgres.url, masterKeyFile, agents });
      await writeFile(site.#planPath, JSON.stringify(plan), { mode: 0o600 });
    } catch (cause) {
      await site.end();
      throw cause;
    }
    return site;
  }

  get #planPath(): string {
    return join(this.#folder, "fleet.json");
  }

  get node(): RunningServer {
    if (this.#node === undefined) throw new Error("no node was started");
    return this.#node;
  }

  get postgresPid(): number {
    return this.#postgres.pid;
  }

  /** On the ports of the one before, as a service manager would start it again. */
  async startNode(): Promise<void> {
    const before = this.#node;
    const ports =
      before === undefined ? {} : { apiPort: Number(new URL(before.url).port), agentPort: before.agentPort };
    this.#node = await startServer({
      name: "node-a",
      dataDirectory: join(this.#folder, "node"),
      databaseUrl: this.#postgres.url,
      ...ports,
    });
  }

  async endNode(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    this.node.program.kill(signal);
    await this.node.program.exited;
  }

  /** One number of the node's /metrics, the sum over its labels if it has some; 0 when it is not there yet. */
  async metric(name: string): Promise<number> {
    return Object.values(await this.metricByLabels(name)).reduce((sum, value) => sum + value, 0);
  }

  /** By what stands in the braces. */
  async metricByLabels(name: string): Promise<Readonly<Record<string, number>>> {
    const headers = { authorization: `Bearer ${this.#apiKey}` };
    const text = await (await fetch(`${this.node.url}/metrics`, { headers })).text();
    const lines = text.matchAll(new RegExp(`^${name}(?:\\{(.*)\\})? (\\S+)$`, "gm"));
    return Object.fromEntries([...lines].map(([, labels = "", value]) => [labels, Number(value)]));
  }

  /** Transactions the database committed so far; sessions report theirs once a second. */
  async transactions(): Promise<number> {
    const { rows } = await this.database.query<{ done: string }>(
      "select xact_commit as done from pg_stat_database where datname = current_database()",
    );
    return Number(rows[0]?.done);
  }

  startFleet({ agents, address, peer }: FleetOptions): FleetProcess {
    return new FleetProcess(this.#spawn("agent-fleet.ts", [this.#planPath, address, String(agents), peer]));
  }

  async startBare(): Promise<{ readonly pid: number; readonly address: string; stop(): Promise<void> }> {
    const child = this.#spawn("bare-server.ts", [this.#planPath]);
    const { port }: { port: number } = (await once(child, "message"))[0];
    return { pid: child.pid ?? 0, address: `127.0.0.1:${port}`, stop: () => stopChild(child) };
  }

  #spawn(program: string, args: readonly string[]): ChildProcess {
    const child = spawn(process.execPath, [join(import.meta.dirname, program), ...args], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#children.push(child);
    return child;
  }

  async end(): Promise<void> {
    await Promise.all(this.#children.map(stopChild));
    await this.#node?.program.stop();
    await this.database.end().catch(() => undefined);
    await this.#postgres.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

export class FleetProcess {
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    this.#child = child;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async ask(question: FleetQuestion): Promise<FleetAnswer> {
    const ending = new AbortController();
    const answered = once(this.#child, "message", { signal: ending.signal });
    const exited = once(this.#child, "exit", { signal: ending.signal });
    this.#child.send(question);
    try {
      const answer = await Promise.race([answered, exited.then(() => undefined)]);
      if (answer === undefined) throw new Error(`the fleet's process ended while it was asked to ${question.ask}`);
      return answer[0];
    } finally {
      ending.abort();
      await Promise.allSettled([answered, exited]);
    }
  }

  /** Asks again every 100 ms until it is so. */
  async until(isSo: (state: FleetState) => boolean, limitMs: number): Promise<FleetState> {
    const endMs = performance.now() + limitMs;
    for (;;) {
      const state = await this.ask({ ask: "state" });
      if (isSo(state)) return state;
      if (performance.now() > endMs) throw new Error(`after ${limitMs} ms the fleet is ${JSON.stringify(state)}`);
      await new Promise((resolve) => void setTimeout(resolve, 100));
    }
  }

  stop(): Promise<void> {
    return stopChild(this.#child);
  }
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

/** Node raises its own soft limit to the hard one at start; only the hard one can be too low. */
function checkDescriptors(agents: number): void {
  const limits = readFileSync("/proc/self/limits", "utf8");
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(limits)?.[1] ?? "unlimited";
  const needed = agents + 500;
  if (hard !== "unlimited" && Number(hard) < needed)
    throw new Error(
      `${agents} agents need ${needed} descriptors in one process, the hard limit is ${hard} (ulimit -Hn)`,
    );
}
