// One agent process on a simulated machine: the shipped journal, engine and connections, joined as agent.ts joins them, and
// the supervisor that starts it again.
import { Connections } from "../../agent/connections.ts";
import type { DialHandlers } from "../../agent/dial.ts";
import { Engine } from "../../agent/engine.ts";
import { gatherEvidence } from "../../agent/evidence.ts";
import { Execution } from "../../agent/execution.ts";
import { Journal } from "../../agent/journal.ts";
import { defaultRosterOptions, type SessionNo } from "../../agent/roster-event.ts";
import type { Site } from "../../agent/site.ts";
import { Background } from "../../shared/background.ts";
import { AppError, errorRows } from "../../shared/errors.ts";
import type { AgentId, NodeId } from "../../shared/ids.ts";
import type { FrameSocket } from "../../shared/link.ts";
import type { FromNode } from "../../shared/wire/from-node.ts";
import { capability, type Hello } from "../../shared/wire/hello.ts";
import { ownProtocols } from "../../shared/wire/version.ts";
import { SimHost, type SimHostOptions, type SpoolBounds } from "./attempt-host.ts";
import { SimProcess, type ProcessClock } from "./kernel/process.ts";
import type { SeededRandom } from "./kernel/random.ts";
import type { World } from "./kernel/world.ts";
import type { Machine } from "./machine.ts";
import type { SimLogger } from "./logger.ts";

export type DialNode = (
  from: { readonly process: SimProcess; readonly machine: Machine; readonly agent: AgentId },
  address: string,
  handlers: DialHandlers,
) => FrameSocket;

export interface SimAgentDeps {
  readonly world: World;
  readonly machine: Machine;
  readonly dial: DialNode;
  readonly random: SeededRandom;
  readonly logger: SimLogger;
  readonly onOpened: (agent: SimAgent, node: NodeId) => void;
  /** Before the engine sees it. */
  readonly onMessage: (agent: SimAgent, session: SessionNo, message: FromNode) => void;
}

export interface SimAgentOptions {
  readonly agent: AgentId;
  readonly name: string;
  readonly seeds: readonly string[];
  readonly slots: number;
  readonly waitingAtMost: number;
  readonly keepAcknowledgedMs: number;
  readonly compactBytes: number;
  readonly bounds: SpoolBounds;
  readonly clock: ProcessClock;
  readonly failure: number;
}

interface Running {
  readonly process: SimProcess;
  readonly journal: Journal;
  engine: Engine | undefined;
  connections: Connections | undefined;
}

const journalPath = "/data/journal";
const doNotRestart: readonly number[] = [2, 77, 78];

export class SimAgent {
  readonly machine: Machine;
  readonly options: SimAgentOptions;
  readonly #deps: SimAgentDeps;
  #running: Running | undefined;
  #sessions: SessionNo = 0;
  starts = 0;
  /** Never started again: its machine is gone, or nobody would. */
  isRetired = false;

  constructor(deps: SimAgentDeps, options: SimAgentOptions) {
    this.#deps = deps;
    this.options = options;
    this.machine = deps.machine;
  }

  get process(): SimProcess | undefined {
    return this.#running?.process.isUp === true ? this.#running.process : undefined;
  }

  get engine(): Engine | undefined {
    return this.process === undefined ? undefined : this.#running?.engine;
  }

  get journal(): Journal | undefined {
    return this.process === undefined ? undefined : this.#running?.journal;
  }

  get sessionCount(): number {
    return this.process === undefined ? 0 : (this.#running?.connections?.sessions.length ?? 0);
  }

  get journalPath(): string {
    return journalPath;
  }

  /** Starts a process, unless one runs: the lock of the data directory lets no second one in. */
  start(): void {
    if (this.process !== undefined || this.isRetired || this.machine.givenUp !== undefined) return;
    const { world, machine, random, logger } = this.#deps;
    this.starts += 1;
    const process = new SimProcess(world, `${this.options.name}#${this.starts}`, this.options.clock);
    const journal = new Journal(
      {
        logger: logger.of(process),
        random,
        disk: machine.disk.forProcess(process),
        freeReserve: () => {
          if (machine.disk.hasReserve) machine.disk.isFull = false;
          machine.disk.hasReserve = false;
          return Promise.resolve();
        },
      },
      { path: journalPath, hostBootId: machine.bootId, compactBytes: this.options.compactBytes },
    );
    const running: Running = { process, journal, engine: undefined, connections: undefined };
    this.#running = running;
    world.note(`${process.name} starts`);
    // Its supervisor.
    process.onDeath(() => world.schedule(random.between(300, 5_000), () => this.start()));
    process.schedule(random.between(20, 200), () => {
      journal
        .open()
        .then(() => this.#opened(running))
        .catch((cause: unknown) => this.#exits(running, AppError.from(cause)));
    });
  }

  kill(): void {
    this.#running?.process.kill();
  }

  drain(): void {
    this.engine?.drain();
  }

  /** Stops as agent.ts does, and is not started again; the process ends when its sockets have had their time to close. */
  async stop(): Promise<void> {
    this.isRetired = true;
    const { process, journal, engine, connections } = this.#running ?? {};
    connections?.stop();
    await engine?.stop();
    await journal?.close();
    process?.schedule(1_200, () => process.kill());
  }

  #opened(running: Running): void {
    const { process, journal } = running;
    if (!process.isUp) return;
    const { logger, random, dial, machine } = this.#deps;
    const { agent, seeds, slots, waitingAtMost, keepAcknowledgedMs } = this.options;
    const processLogger = logger.of(process);
    const background = new Background({ logger: processLogger });
    const { clock } = process;
    const onFatal = (why: AppError): void => this.#exits(running, why);
    const engine: Engine = new Engine(
      {
        clock,
        logger: processLogger,
        background,
        journal,
        site: this.#site(process),
        defer: process.defer,
        closeSession: (session) => connections.closeSession(session),
        onFatal,
      },
      { roster: { ...defaultRosterOptions, workSlots: slots, waitingAtMost, keepAcknowledgedMs } },
    );
    const hello = (): Hello => ({
      type: "hello",
      protocols: ownProtocols,
      version: "1.0.0",
      bootCounter: journal.boot.counter,
      bootId: journal.boot.bootId,
      journalId: journal.id,
      lineage: [...journal.state.lineage],
      attempts: engine.reports(),
      capabilities: [capability.isolation, capability.slots],
      host: { hostname: machine.place, os: "linux", arch: "x64", slots },
    });
    const connections: Connections = new Connections(
      {
        clock,
        random,
        logger: processLogger,
        dial: (target, handlers) => dial({ process, machine, agent }, target.address, handlers),
        nextSessionNo: () => (this.#sessions += 1),
        hello,
        onOpened: (session) => {
          this.#deps.onOpened(this, session.welcome.node.id);
          journal.welcomed();
          engine.sessionOpened(session);
        },
        onMessage: (session, message) => {
          this.#deps.onMessage(this, session, message);
          if (message.type === "nodes") connections.list(message);
          else engine.receive(session, message);
        },
        onRoundTrip: (session, roundTripMs) => engine.roundTrip(session, roundTripMs),
        onEnded: (session) => engine.sessionEnded(session),
        onRefused: onFatal,
        onList: (list) => {
          machine.list = list;
        },
        target: (address) => ({ address, identity: { key: "", cert: "", nodesCas: [], servername: "" } }),
      },
      { seeds, list: machine.list, agentId: agent },
    );
    running.engine = engine;
    running.connections = connections;
    engine.start().then(
      () => {
        if (process.isUp) connections.start();
      },
      (cause: unknown) => this.#exits(running, AppError.from(cause)),
    );
  }

  #site(process: SimProcess): Site {
    const { machine, random } = this.#deps;
    const { bounds, failure } = this.options;
    const pause = (): Promise<void> => new Promise((resolve) => process.schedule(random.skewed(0.1, 3), resolve));
    const hostOf = (given: Pick<SimHostOptions, "attempt" | "facts">): SimHost =>
      new SimHost({ ...given, machine, process, random, bounds, failure });
    return {
      hostBootId: machine.bootId,
      bootMs: () => machine.bootMs,
      freeBytes: () => (machine.disk.isFull ? 0 : 1e9),
      prepare: pause,
      admit: (_offer, { freeBytes, stoodMs }) => {
        if (stoodMs > 2_000 && stoodMs > _offer.startWindowMs) return { kind: "later", reason: "window-passed" };
        if (_offer.spec.kind !== "script") return { kind: "ok" };
        if (freeBytes < 1e6) return { kind: "later", reason: "disk-full" };
        if (_offer.spec.interpreter === "missing") return { kind: "never", refusal: { reason: "interpreter-missing" } };
        return { kind: "ok" };
      },
      keepSecrets: () => Promise.reject(new AppError("internal", "nothing that is simulated has secrets")),
      evidence: (attempt, journaled) =>
        gatherEvidence(hostOf({ attempt, facts: undefined }).folder, journaled, {
          hostBootId: machine.bootId,
          isAlive: (mark) => machine.processes.isAlive(mark),
        }),
      folders: async () => {
        await pause();
        return [...machine.folders.keys()];
      },
      removeFolder: async (attempt) => {
        await pause();
        if (!process.mayAct()) return;
        this.onRemoved(attempt);
        machine.removeFolder(attempt);
      },
      execution: (deps, given) => new Execution(deps, { ...given, host: hostOf(given), slowestPollMs: 2_000 }),
      close: () => undefined,
    };
  }

  onRemoved: (attempt: Parameters<Machine["removeFolder"]>[0]) => void = () => undefined;
  onGivenUp: (why: AppError) => void = () => undefined;

  #exits(running: Running, why: AppError): void {
    const { process } = running;
    if (!process.isUp) return;
    const { world, machine } = this.#deps;
    world.note(`${process.name} exits: ${why.code}`);
    if (doNotRestart.includes(errorRows[why.code].exitCode)) {
      machine.givenUp = why.code;
      this.onGivenUp(why);
    }
    process.kill();
  }
}
