// One run: builds the world a seed describes, lets faults and work meet, heals everything, waits for everything to end and
// looks at the whole history.
import { closeCode } from "../../shared/wire/close-code.ts";
import type { DialHandlers } from "../../agent/dial.ts";
import { probe } from "../../agent/probe.ts";
import { agentIdSchema, nodeIdSchema, type AgentId } from "../../shared/ids.ts";
import type { FrameSocket } from "../../shared/link.ts";
import { AppError } from "../../shared/errors.ts";
import { SimAgent } from "./agent.ts";
import { Client, principal } from "./client.ts";
import { DatabaseServer } from "./database-server.ts";
import { checkHistory, distrustedSessions } from "./invariants.ts";
import { SimProcess, type ProcessClock } from "./kernel/process.ts";
import type { SeededRandom } from "./kernel/random.ts";
import { Trace } from "./kernel/trace.ts";
import { World } from "./kernel/world.ts";
import { SimLogger } from "./logger.ts";
import { Machine } from "./machine.ts";
import { short } from "./short.ts";
import { Nemesis } from "./nemesis.ts";
import { Connection, Network } from "./network.ts";
import type { AttemptRow } from "./model/rows.ts";
import { SimNode } from "./node.ts";
import { deriveOptions, type SimOptions } from "./options.ts";
import { PairWatch, type Pair } from "./pairs.ts";
import { Truth } from "./truth.ts";
import { attemptsOf, Watch } from "./watch.ts";
import type { RemovedAgent } from "../../server/store/remove-agent.ts";

/** Simulated time everything has to come to its end once all is healed. */
const livenessMs = 300_000;
const settledMs = 35_000;
/** An unreachable limit that a run waits for. */
const shortLimitMs = 60_000;

export interface RunReport {
  readonly seed: number;
  readonly hash: string;
  readonly events: number;
  readonly simulatedMs: number;
  readonly violations: readonly string[];
  /** How often each pair of concurrent events met. */
  readonly pairs: Partial<Record<Pair, number>>;
  readonly lastLines: readonly string[];
  readonly options: SimOptions;
}

export interface RunOptions {
  readonly onLine?: (line: string) => void;
}

export class Simulation {
  readonly options: SimOptions;
  readonly world: World;
  readonly network: Network;
  readonly database: DatabaseServer;
  readonly truth = new Truth();
  readonly watch: Watch;
  readonly pairs = new PairWatch(this);
  readonly nodes: SimNode[] = [];
  readonly agents: SimAgent[] = [];
  readonly client: Client;
  readonly random: SeededRandom;
  readonly #logger: SimLogger;
  hintLoss: number;

  constructor(options: SimOptions, trace: Trace) {
    this.options = options;
    this.world = new World(options.seed, trace);
    const { world } = this;
    world.note(JSON.stringify(options));
    this.random = world.random("simulation");
    this.network = new Network(world, options.latencyMs);
    this.database = new DatabaseServer(this.network);
    this.database.rates = { ...options.database };
    this.hintLoss = options.hintLoss;
    this.#logger = new SimLogger((cause) => world.fail(cause));
    const { model } = this.database;
    this.watch = new Watch({
      db: model,
      truth: this.truth,
      fail: (cause) => world.fail(cause),
      executing: () => this.database.executing,
    });
    this.database.onExecuted = (executed) => {
      const { place, name } = executed;
      if (!quietStatements.has(name)) world.note(`${place} ${name}`);
      this.watch.executed(executed);
      this.pairs.executed(executed);
      if (name === "remove-agent" && executed.answer !== undefined) {
        const { id } = executed.answer as RemovedAgent;
        this.truth.stranded.set(id, "it was removed");
      }
    };
    for (let number = 0; number < options.nodes; number += 1) this.nodes.push(this.#makeNode(number));
    for (let number = 0; number < options.agents; number += 1) this.enrol(`agent-${number}`, `agent-${number}`);
    this.client = new Client(
      {
        world,
        network: this.network,
        nodes: this.nodes,
        agentNames: this.agents.map((agent) => agent.options.name),
        truth: this.truth,
        isStored: (key) => model.submissionKeys.get(`${principal}\0${key}`) !== undefined,
        onRead: (task, seen) => this.watch.read(task, seen),
      },
      options,
    );
  }

  #clock(): ProcessClock {
    return { wallOffsetMs: this.random.between(-86_400_000, 86_400_000), rate: this.random.between(0.995, 1.005) };
  }

  #makeNode(number: number): SimNode {
    const id = nodeIdSchema.parse(this.random.uuid());
    return new SimNode(
      {
        world: this.world,
        database: this.database,
        random: this.world.random(`node ${number}`),
        logger: this.#logger,
        publish: (from, kind, agents) => {
          for (const node of this.nodes) {
            if (node === from || this.random.chance(this.hintLoss) || this.database.state === "down") continue;
            this.world.schedule(this.network.delayMs(from.place, node.place), () => node.hint(kind, agents));
          }
        },
      },
      { id, name: `node-${number}`, clock: this.#clock() },
    );
  }

  /** A new agent on a machine of its own. */
  enrol(name: string, place: string): SimAgent {
    const id = agentIdSchema.parse(this.random.uuid());
    this.database.model.transaction("durable", "enrol", () =>
      this.database.model.agents.put(id, {
        id,
        name,
        status: "active",
        statusReason: "",
        bootCounter: null,
        bootId: null,
        journalId: null,
        retiredJournals: [],
        lastSeenAtMs: null,
        refusedBootId: null,
        refusedAtMs: null,
      }),
    );
    return this.addAgent(id, place, name);
  }

  /** An agent on a machine of its own; a clone has the id of the one it is a copy of. */
  addAgent(id: AgentId, place: string, name = place): SimAgent {
    const { options, world } = this;
    const machine = new Machine(world, this.truth, {
      place,
      slowestShimMs: options.slowestShimMs,
      shimDeath: options.shimDeath,
    });
    machine.disk.slowestSyncMs = options.slowestSyncMs;
    machine.processes.onStart = (attempt) => this.watch.started(attempt);
    const agent = new SimAgent(
      {
        world,
        machine,
        dial: (from, address, handlers) => this.#dial(from, address, handlers),
        random: world.random(`agent ${place}`),
        logger: this.#logger,
        onOpened: (self, node) => this.pairs.opened(self, node),
        onMessage: (self, session, message) => {
          world.note(`${place} s${session} ${message.type} ${attemptsOf(message).map(short).join(" ")}`);
          this.watch.received(self, message);
          this.pairs.received(self, session, message);
        },
      },
      {
        agent: id,
        name,
        seeds: this.nodes.map((node) => node.address),
        slots: options.slots,
        waitingAtMost: options.waitingAtMost,
        keepAcknowledgedMs: options.keepAcknowledgedMs,
        compactBytes: options.compactBytes,
        bounds: options.bounds,
        clock: this.#clock(),
        failure: options.failure,
      },
    );
    agent.onRemoved = (attempt) => this.watch.removed(machine, attempt);
    agent.onGivenUp = (why) => this.truth.stranded.set(id, why.code);
    this.agents.push(agent);
    return agent;
  }

  /** What `register` and `doctor` do beside a running agent: another process greets with the agent's identity, and changes nothing. */
  probe(agent: SimAgent, node: SimNode): void {
    const { machine, options } = agent;
    const process = new SimProcess(this.world, `doctor of ${options.name}`, options.clock);
    this.world.note(`${process.name} probes ${node.name}`);
    const identity = { key: "", cert: "", nodesCas: [], servername: "" };
    const from = { process, machine, agent: options.agent, purpose: "probe" } as const;
    void probe(
      { address: node.address, identity },
      { clock: process.clock, dial: (target, handlers) => this.#dial(from, target.address, handlers) },
    ).then((result) => {
      this.world.note(`${process.name} ${result.ok ? "is welcome" : `hears ${result.failure.end.kind}`}`);
      if (result.ok) this.pairs.probed(agent);
      process.schedule(1_500, () => process.kill());
    });
  }

  #dial(
    from: {
      readonly process: SimProcess;
      readonly machine: Machine;
      readonly agent: AgentId;
      readonly purpose?: "probe";
    },
    address: string,
    handlers: DialHandlers,
  ): FrameSocket {
    const { network, world } = this;
    const node = this.nodes.find((one) => one.address === address);
    const { process, machine } = from;
    const place = machine.place;
    let end: FrameSocket | undefined;
    let isOver = false;
    const fail = (text: string, delayMs: number): void => {
      process.schedule(delayMs, () => {
        if (isOver) return;
        isOver = true;
        handlers.onEnd({ kind: "failed", error: new AppError("cluster.unreachable", `${address}: ${text}`) });
      });
    };
    const reject = (status: number, retryAfterMs: number, detail: string): void => {
      process.schedule(network.delayMs(place, address), () => {
        if (isOver) return;
        isOver = true;
        handlers.onEnd({ kind: "rejected", status, retryAfterMs, detail });
      });
    };
    fail("timed out", 15_000);
    if (node !== undefined && process.mayAct())
      world.schedule(network.delayMs(place, node.place), () => {
        if (network.isCut(place, node.place) || network.isCut(node.place, place)) return;
        const server = node.process;
        if (server === undefined) {
          fail("ECONNREFUSED", network.delayMs(node.place, place));
          return;
        }
        server.schedule(0, () => {
          if (node.stage !== "serving" || node.couriers?.isDraining === true) {
            reject(503, 1_000, "the node drains");
            return;
          }
          node.admission(from.agent).then(
            (row) => {
              if (row?.status !== "active") {
                reject(403, 0, `agent ${row?.status ?? "unknown"}`);
                return;
              }
              if (isOver || !process.isUp) return;
              const connection = new Connection(network, { process, place }, { process: server, place: node.place });
              const [mine, theirs] = connection.ends;
              isOver = true;
              end = mine;
              mine.handlers = {
                frame: handlers.onFrame,
                ping: () => undefined,
                pong: handlers.onPong,
                ended: (code, reason) => handlers.onEnd({ kind: "closed", code, reason }),
              };
              const session = node.openSession(theirs, from.agent, row.name);
              if (from.purpose === "probe" && session !== undefined)
                this.watch.probing(mine, () => node.couriers?.sessions.get(from.agent) === session);
              process.schedule(network.delayMs(node.place, place), handlers.onOpen);
            },
            () => reject(503, 2_000, "the database is away"),
          );
        });
      });
    return {
      get bufferedAmount() {
        return end?.bufferedAmount ?? 0;
      },
      send: (frame, done) => end?.send(frame, done),
      ping: () => end?.ping(),
      close: (code, reason) => end?.close(code, reason),
      terminate: () => {
        if (end !== undefined) end.terminate();
        else if (!isOver) {
          isOver = true;
          process.defer(() => handlers.onEnd({ kind: "closed", code: closeCode.goingAway, reason: "terminated" }));
        }
      },
    };
  }

  async run(): Promise<string[]> {
    const { world, options } = this;
    for (const node of this.nodes) node.start();
    for (const agent of this.agents) agent.start();
    this.client.start();
    const nemesis = new Nemesis(this);
    nemesis.start();
    try {
      await world.run(options.faultMs);
      world.note("all is healed");
      nemesis.heal();
      const healedMs = world.nowMs;
      await world.run(healedMs + livenessMs, () => this.#isDone());
      // What is left to tell has its time.
      await world.run(world.nowMs + settledMs, () => this.#isSettled());
    } catch (cause) {
      return [
        cause instanceof Error
          ? (cause.stack ?? cause.message).split("\n    at").slice(0, 4).join(" at")
          : String(cause),
      ];
    }
    return checkHistory({
      db: this.database.model,
      truth: this.truth,
      watch: this.watch,
      agents: this.agents,
      nodes: this.nodes,
      isOwed: (row) => this.isOwed(row),
    });
  }

  #isDone(): boolean {
    if (this.client.open > 0) return false;
    for (const row of this.database.model.attempts.rows.values()) if (row.rank !== 9 && this.isOwed(row)) return false;
    return true;
  }

  /** Whether an end is promised: the agent lives, or it is gone and the task's unreachable limit is a short one. */
  isOwed({ agent, task, rank }: AttemptRow): boolean {
    if (!this.truth.stranded.has(agent)) return true;
    if (this.database.model.agents.get(agent)?.status === "removed") return true;
    const limitMs = this.database.model.tasks.get(task)?.unreachableLimitMs ?? 0;
    const isGone = this.agents.every((one) => one.options.agent !== agent || one.sessionCount === 0);
    return isGone && rank > 0 && limitMs > 0 && limitMs < shortLimitMs;
  }

  #isSettled(): boolean {
    if (distrustedSessions(this.database.model, this.nodes).length > 0) return false;
    return this.agents.every(
      (agent) =>
        this.truth.stranded.has(agent.options.agent) || (agent.sessionCount > 0 && agent.engine?.size.open === 0),
    );
  }
}

/** How everything stood at the end, for people. */
function describe({ nodes, agents, database, truth }: Simulation): string[] {
  return [
    ...nodes.map(
      (node) =>
        `${node.name}: ${node.process?.life ?? "down"} ${node.stage}, ${node.couriers?.sessions.size ?? 0} sessions`,
    ),
    ...agents.flatMap((agent) => {
      const { engine, journal, machine } = agent;
      const stranded = truth.stranded.get(agent.options.agent);
      const head = `${agent.options.name}: ${agent.process?.life ?? "down"}, ${agent.sessionCount} sessions, ${JSON.stringify(engine?.size ?? {})} ${machine.tampering} ${stranded ?? ""}`;
      const open = [...(journal?.state.open ?? [])].map(
        ([id, { startingOn, cancelGraceMs, homeNo, result, facts }]) => {
          const folder = machine.folder(id);
          const row = database.model.attempts.get(id);
          return `  ${short(id)} ${facts?.spec.kind ?? "?"} home ${homeNo} starting ${startingOn === machine.bootId} cancel ${cancelGraceMs ?? "-"} result ${result?.outcome ?? "-"} | gate ${folder?.gate ?? "-"} mark ${folder?.mark?.pid ?? "-"} shim ${folder?.shim?.stage ?? "-"} exit ${folder?.exit?.exitCode ?? "-"} | row ${row?.state ?? "none"} cancel ${row?.cancelRequested ?? "-"} home ${database.model.logs.get(id)?.homeNo ?? "-"}`;
        },
      );
      return [head, ...open];
    }),
  ];
}

/** Statements that come and go all the time and change nothing that matters here. */
const quietStatements = new Set(
  "feed known cancels distrusted clock nodes beat presence settle read-task targets sweep-expire sweep-unreachable sweep-other-journal".split(
    " ",
  ),
);

export async function runSeed(seed: number, { onLine }: RunOptions = {}): Promise<RunReport> {
  const options = deriveOptions(seed);
  const trace = new Trace(onLine);
  const simulation = new Simulation(options, trace);
  const violations = await simulation.run();
  return {
    seed,
    hash: trace.hash,
    events: simulation.world.events,
    simulatedMs: Math.round(simulation.world.nowMs),
    violations,
    pairs: simulation.pairs.counts,
    lastLines: violations.length > 0 ? [...trace.last(60), ...describe(simulation)] : [],
    options,
  };
}
