// The agent as a service: joins lock, identity, journal, engine, connections and renewal. Public for embedding.
// Leaves process signals and exit codes to main.ts. Invariant: nothing is dialled before the boot record is synced.
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { anyNodeName, nodeName } from "../certs/profile.ts";
import { Background } from "../shared/background.ts";
import type { Clock } from "../shared/clock.ts";
import { afterThisTurn, systemClock } from "../shared/clock.ts";
import { makeClosedFolder } from "../shared/closed-folder.ts";
import { AppError } from "../shared/errors.ts";
import type { NodeId } from "../shared/ids.ts";
import type { Logger } from "../shared/logger.ts";
import { silentLogger } from "../shared/logger.ts";
import type { Random } from "../shared/random.ts";
import { SystemRandom } from "../shared/random.ts";
import type { Service } from "../shared/service.ts";
import { ownVersion } from "../shared/version.ts";
import type { FromNode } from "../shared/wire/from-node.ts";
import { capability, type Hello } from "../shared/wire/hello.ts";
import { ownProtocols } from "../shared/wire/version.ts";
import { defaultFreeBytesAtLeast } from "./admission.ts";
import { Connections } from "./connections.ts";
import type { ConnectionView } from "./connections.ts";
import { DataLock } from "./data-lock.ts";
import { executableFolderOf } from "./executable-folder.ts";
import { createDial } from "./dial.ts";
import type { Dial, DialTarget } from "./dial.ts";
import { DiskReserve } from "./disk-reserve.ts";
import { Engine } from "./engine.ts";
import { makeHealthLine } from "./health-line.ts";
import type { HealthLine } from "./health-line.ts";
import { HealthSocket } from "./health-socket.ts";
import { hostBootId } from "./host.ts";
import { installCommands } from "./command-install.ts";
import { loadIdentity, storeIdentity } from "./identity.ts";
import type { Identity } from "./identity.ts";
import { findInterpreter, interpreterNames } from "./interpreters.ts";
import { Journal } from "./journal.ts";
import { loadNodeList, NodeListFile } from "./node-addresses.ts";
import { ProxyRules } from "./proxy.ts";
import { loadReach, seedsOf } from "./reach.ts";
import type { Reach } from "./reach.ts";
import { Renewal } from "./renewal.ts";
import type { RosterOptions, SessionNo } from "./roster-event.ts";
import { defaultRosterOptions } from "./roster-event.ts";
import { scriptEnvironment } from "./script-environment.ts";
import { defaultSpoolBounds } from "./segments.ts";
import { loadSecretKey } from "./secret-store.ts";
import { findSignalReset, installShim } from "./shim-install.ts";
import { HostSite } from "./site.ts";
import type { HostSiteOptions } from "./site.ts";
import { withUpdates, type UpdateTaskOptions } from "./update/task.ts";

export interface AgentOptions {
  readonly dataPath: string;
  /** Scripts that run at once in the work lane: 1 to 64. Default 10. */
  readonly slots?: number;
  /** What scripts inherit, before the agent's own settings are taken out. Default: the process's environment. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly roster?: Partial<Omit<RosterOptions, "journalId" | "hostBootId">>;
  /** What each output stream may take of the disk. */
  readonly bounds?: HostSiteOptions["bounds"];
  /** Kept for result records on a full disk; 0 keeps none. Default 32 MiB. */
  readonly reserveBytes?: number;
  readonly freeBytesAtLeast?: number;
  /** How long the work folder of a failed attempt is kept, in milliseconds. Default 0: not at all. */
  readonly keepFailedMs?: number;
  /** A shell command that restarts this agent, for updates that the cluster asks for; default its systemd unit, as root. */
  readonly restartCommand?: string | undefined;
  /** Size from which the journal is rewritten. Default 16 MiB. */
  readonly compactBytes?: number;
}

export interface AgentDeps {
  readonly clock?: Clock;
  readonly random?: Random;
  readonly logger?: Logger;
  readonly dial?: Dial;
  /** The host's boot id; tests play a reboot with it. */
  readonly hostBootId?: string;
  /** After the first session is open. */
  readonly onReady?: () => void;
  /** The agent cannot go on by itself: refused, superseded, quarantined, or its journal failed. */
  readonly onFatal?: (why: AppError) => void;
}

export interface AgentStatus {
  readonly name: string;
  readonly state: "stopped" | "running" | "draining" | "quarantined";
  readonly nodes: readonly ConnectionView[];
  readonly attempts: Engine["size"];
}

export interface Agent extends Service {
  /** Takes nothing new; running scripts are left running. */
  drain(): void;
  status(): AgentStatus;
}

export function createAgent(options: AgentOptions, deps: AgentDeps = {}): Agent {
  return new HoldfastAgent(options, deps);
}

interface Parts {
  readonly lock: DataLock;
  readonly journal: Journal;
  readonly engine: Engine;
  readonly connections: Connections;
  readonly renewal: Renewal;
  readonly health: HealthSocket;
}

type State =
  { readonly kind: "stopped" } | { readonly kind: "running" | "draining"; readonly parts: Parts; identity: Identity };

class HoldfastAgent implements Agent {
  readonly #options: AgentOptions;
  readonly #deps: AgentDeps;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #logger: Logger;
  readonly #background: Background;
  readonly #stopping = new AbortController();
  #state: State = { kind: "stopped" };
  #readiness: "waiting" | "told" = "waiting";
  #lastSession: SessionNo = 0;

  constructor(options: AgentOptions, deps: AgentDeps) {
    // Scripts are started in other folders: a relative path would mean something else there.
    this.#options = { ...options, dataPath: resolve(options.dataPath) };
    this.#deps = deps;
    this.#clock = deps.clock ?? systemClock;
    this.#random = deps.random ?? new SystemRandom();
    this.#logger = deps.logger ?? silentLogger;
    this.#background = new Background({ logger: this.#logger });
  }

  async start(): Promise<void> {
    const { dataPath } = this.#options;
    await makeClosedFolder(dataPath);
    const identity = await loadIdentity(dataPath);
    if (identity === undefined) {
      const mend = "Run `holdfast agent register --server URL --token T --all-nodes` first, with the same --data-dir.";
      throw new AppError("data-directory.missing", `${dataPath} holds no agent identity`, { mend });
    }
    const bootId = this.#deps.hostBootId ?? hostBootId();
    const lock = new DataLock({ path: join(dataPath, "lock"), hostBootId: bootId });
    await lock.start();
    let journal: Journal | undefined;
    try {
      const [shimPath, commandsPath, resetSignals, list, reach, secretKey] = await Promise.all([
        installShim(dataPath),
        installCommands(dataPath),
        findSignalReset(),
        loadNodeList(join(dataPath, "nodes.json")),
        loadReach(dataPath),
        loadSecretKey(dataPath, this.#random),
      ]);
      journal = await this.#openJournal(bootId);
      const paths = { shimPath, commandsPath };
      const parts = this.#join({ lock, journal, ...paths, resetSignals, list, reach, identity, bootId, secretKey });
      this.#state = { kind: "running", parts, identity };
      await parts.engine.start();
      parts.connections.start();
      parts.renewal.start();
      await parts.health.start();
    } catch (cause) {
      await journal?.close();
      await lock.stop();
      throw cause;
    }
  }

  drain(): void {
    if (this.#state.kind !== "running") return;
    this.#state = { ...this.#state, kind: "draining" };
    this.#state.parts.engine.drain();
  }

  async stop(): Promise<void> {
    if (this.#state.kind === "stopped") return;
    const { lock, journal, engine, connections, renewal, health } = this.#state.parts;
    this.#state = { kind: "stopped" };
    this.#stopping.abort(new AppError("aborted", "the agent stops"));
    renewal.stop();
    connections.stop();
    await health.stop();
    await engine.stop();
    await this.#background.settle();
    await journal.close();
    await lock.stop();
  }

  status(): AgentStatus {
    if (this.#state.kind === "stopped") {
      const attempts = { attempts: 0, open: 0, running: 0, waiting: 0, kept: 0 };
      return { name: "", state: "stopped", nodes: [], attempts };
    }
    const { parts, identity, kind } = this.#state;
    const state = parts.journal.corruption === undefined ? kind : "quarantined";
    return { name: identity.name, state, nodes: parts.connections.views(), attempts: parts.engine.size };
  }

  async #openJournal(bootId: string): Promise<Journal> {
    const { dataPath, compactBytes, reserveBytes } = this.#options;
    const reserve = new DiskReserve({
      path: join(dataPath, "reserve"),
      ...(reserveBytes === undefined ? {} : { bytes: reserveBytes }),
    });
    const journal = new Journal(
      { logger: this.#logger, random: this.#random, freeReserve: () => reserve.free() },
      { path: join(dataPath, "journal"), hostBootId: bootId, ...(compactBytes === undefined ? {} : { compactBytes }) },
    );
    await journal.open();
    if (journal.corruption !== undefined) {
      this.#logger.error({ err: journal.corruption }, "the journal is damaged: results are uploaded, no work is taken");
    }
    if (reserveBytes !== 0) this.#background.run("fill the disk reserve", () => reserve.fill(dataPath));
    return journal;
  }

  #join(given: {
    readonly lock: DataLock;
    readonly journal: Journal;
    readonly shimPath: string;
    readonly commandsPath: string;
    readonly resetSignals: string;
    readonly list: Awaited<ReturnType<typeof loadNodeList>>;
    readonly reach: Reach;
    readonly identity: Identity;
    readonly bootId: string;
    readonly secretKey: Buffer;
  }): Parts {
    const { dataPath, slots, environment, roster, bounds, freeBytesAtLeast, keepFailedMs } = this.#options;
    const { lock, journal, identity, reach } = given;
    const common = { clock: this.#clock, random: this.#random, logger: this.#logger, background: this.#background };
    const scripts = scriptEnvironment(environment ?? process.env);
    const site = new HostSite(common, {
      dataPath,
      hostBootId: given.bootId,
      shimPath: given.shimPath,
      commandsPath: given.commandsPath,
      resetSignals: given.resetSignals,
      agentName: identity.name,
      groupName: `holdfast-${identity.agentId}`,
      environment: scripts,
      bounds: bounds ?? defaultSpoolBounds,
      secretKey: given.secretKey,
      updates: this.#updates,
      ...(freeBytesAtLeast === undefined ? {} : { freeBytesAtLeast }),
      ...(keepFailedMs === undefined ? {} : { keepFailedMs }),
    });
    const engine: Engine = new Engine(
      {
        ...common,
        journal,
        site,
        defer: afterThisTurn,
        closeSession: (session) => connections.closeSession(session),
        onFatal: (why) => this.#fatal(why),
      },
      { roster: { ...defaultRosterOptions, ...(slots === undefined ? {} : { workSlots: slots }), ...roster } },
    );
    const version = ownVersion();
    const interpreters = (): string[] =>
      interpreterNames.filter((name) => findInterpreter(name, scripts["PATH"]) !== undefined);
    const executable = executableFolderOf(process.execPath)?.version;
    const hello = (): Hello => ({
      type: "hello",
      protocols: ownProtocols,
      version,
      bootCounter: journal.boot.counter,
      bootId: journal.boot.bootId,
      journalId: journal.id,
      lineage: [...journal.state.lineage],
      attempts: engine.reports(),
      capabilities: ["no-op", ...Object.values(capability), ...interpreters()],
      host: {
        hostname: hostname(),
        os: process.platform,
        arch: process.arch,
        slots: engine.workSlots,
        ...(executable === undefined ? {} : { executable }),
      },
    });
    const listFile = new NodeListFile(common, { path: join(dataPath, "nodes.json") });
    const connections: Connections = new Connections(
      {
        ...common,
        dial: this.#deps.dial ?? createDial(ProxyRules.read(reach.proxy, environment ?? process.env)),
        nextSessionNo: () => (this.#lastSession += 1),
        hello,
        onOpened: (session) => {
          journal.welcomed();
          engine.sessionOpened(session);
          if (this.#readiness === "told") return;
          this.#readiness = "told";
          this.#deps.onReady?.();
        },
        onMessage: (session, message) => this.#receive(session, message),
        onRoundTrip: (session, roundTripMs) => engine.roundTrip(session, roundTripMs),
        onEnded: (session) => engine.sessionEnded(session),
        onRefused: (why) => this.#fatal(why),
        onList: (list) => listFile.keep(list),
        target: (address, node) => this.#target(address, node),
      },
      {
        seeds: reach.only?.seeds ?? seedsOf(reach.seeds, identity.seeds),
        ...(reach.only === undefined ? {} : { only: reach.only.nodes }),
        list: given.list,
        agentId: identity.agentId,
      },
    );
    const renewal = new Renewal({
      ...common,
      identity: () => this.#identity,
      send: (message) => {
        const [session] = connections.sessions;
        session?.link.send(message);
        return session !== undefined;
      },
      onRenewed: (change) => this.#renewed(change),
    });
    const startedMs = this.#clock.monotonicMs();
    const line = (): HealthLine =>
      makeHealthLine({
        pid: process.pid,
        version,
        identity,
        activity: this.#state.kind === "running" ? "running" : "draining",
        corruption: journal.corruption,
        upMs: this.#clock.monotonicMs() - startedMs,
        views: connections.views(),
        size: engine.size,
        journalBytes: journal.bytes,
        freeBytes: site.freeBytes(),
        refusedBelowBytes: freeBytesAtLeast ?? defaultFreeBytesAtLeast,
        cgroups: site.groups,
        interpreters: interpreters(),
      });
    const health = new HealthSocket({ ...common, line }, { dataPath });
    return { lock, journal, engine, connections, renewal, health };
  }

  get #updates(): UpdateTaskOptions {
    const { dataPath, restartCommand } = this.#options;
    return { dataPath, restartCommand, executable: process.execPath };
  }

  get #identity(): Identity {
    if (this.#state.kind === "stopped") throw new AppError("aborted", "the agent has stopped");
    return this.#state.identity;
  }

  #target(address: string, node: NodeId | undefined): DialTarget {
    const { cluster, key, certificate, nodesCa } = this.#identity;
    const servername = node === undefined ? anyNodeName(cluster) : nodeName(cluster, node);
    return { address, identity: { key, cert: certificate, nodesCas: nodesCa, servername } };
  }

  #receive(session: SessionNo, message: FromNode): void {
    if (this.#state.kind === "stopped") return;
    const { engine, connections, renewal } = this.#state.parts;
    switch (message.type) {
      case "nodes":
        connections.list(message);
        return;
      case "renewed":
        renewal.renewed(message);
        return;
      default:
        engine.receive(session, message.type === "offer" ? withUpdates(message, this.#updates) : message);
    }
  }

  async #renewed(change: Pick<Identity, "key" | "certificate" | "agentsCa" | "nodesCa">): Promise<void> {
    const identity: Identity = { ...this.#identity, ...change };
    await storeIdentity(this.#options.dataPath, identity);
    if (this.#state.kind === "stopped") return;
    this.#state.identity = identity;
    const { connections } = this.#state.parts;
    // One after another, so that the agent is never without a session for its certificate's sake.
    for (const session of connections.sessions) {
      connections.redial(session.no, "a renewed certificate is used from now on");
      await this.#clock.sleep(1_000, this.#stopping.signal).catch(() => undefined);
      if (this.#stopping.signal.aborted) return;
    }
  }

  #fatal(why: AppError): void {
    this.#logger.error({ err: why, mend: why.mend }, why.message);
    this.#deps.onFatal?.(why);
  }
}
