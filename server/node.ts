// One server node: joins store, gateway, cluster, enrolment and API, which do not know each other. Starts from the
// database outwards and stops in reverse, agents' door first, so that nothing is promised that cannot be kept.
import { Registry } from "prom-client";
import { pinOf, readTrustAnchor } from "../certs/trust.ts";
import { Background } from "../shared/background.ts";
import { afterThisTurn, systemClock, type Clock } from "../shared/clock.ts";
import { AppError } from "../shared/errors.ts";
import { bootIdSchema, createIdSource, newId, type AgentId, type NodeId } from "../shared/ids.ts";
import type { Logger } from "../shared/logger.ts";
import { SystemRandom, type Random } from "../shared/random.ts";
import { stopAll, type Service } from "../shared/service.ts";
import { ApiServer } from "./api/http-server.ts";
import { createBackend } from "./backend.ts";
import { createCouriers } from "./couriers.ts";
import { Hints } from "./cluster/hints.ts";
import { executablesFolder, ExecutableFolder } from "./executables/folder.ts";
import { openClusterTrust, type ClusterTrust } from "./enrolment/cluster-trust.ts";
import { createEnrolment } from "./enrolment/enrol-agent.ts";
import { firstToken } from "./first-token.ts";
import { loadMasterKey } from "./enrolment/master-key.ts";
import { NodeLeaf } from "./enrolment/node-identity.ts";
import { createNonces } from "./enrolment/nonce.ts";
import { renewAgent } from "./enrolment/renew-agent.ts";
import type { AgentListenerIdentity } from "./gateway/tls-options.ts";
import { adminKey } from "./admin-key.ts";
import { agentAddresses, checkedNodeName } from "./advertise.ts";
import { createAgentsDoor } from "./agents-door.ts";
import { Housekeeping } from "./housekeeping.ts";
import { databaseSeconds, eventLoopDelay, gauge, meteredStore } from "./metrics.ts";
import { judgeJoin } from "./join.ts";
import { Refusals } from "./refusals.ts";
import { Database } from "./store/connection.ts";
import { migrate } from "./store/migrate.ts";
import { ensurePartitions } from "./store/partitions.ts";
import { offlineAgents } from "./store/offline-agents.ts";
import { createPostgresClusterStore } from "./store/postgres-cluster.ts";
import { createPostgresStore } from "./store/postgres-store.ts";
import { defaultQueueLimits, QueueBounds, type QueueLimits } from "./store/queue-bounds.ts";
import { writeRefusals } from "./store/write-refusals.ts";
import { readEarlier } from "./store/submit-tasks.ts";
import { stopInSteps, type StopStep } from "./stopping.ts";
import { Targets } from "./targets.ts";
import { createSecretVault } from "./tasks/secret-vault.ts";
import { Followers } from "./tasks/followers.ts";

export interface NodeOptions {
  /** Holds the node's id and, at the cluster's first start, receives master.key and admin-api-key. */
  readonly dataDirectory: string;
  readonly databaseUrl: string;
  readonly name: string;
  readonly version: string;
  /** `join`: a cluster has to be there, and a node that was removed comes back as a new one. Default start. */
  readonly intent?: "start" | "join";
  readonly apiListen: { readonly host: string; readonly port: number };
  readonly agentListen: { readonly host: string; readonly port: number };
  /** host:port that agents dial; default: this machine's host name and the agent listener's port. */
  readonly advertise?: readonly string[];
  /** Default `<dataDirectory>/master.key`. */
  readonly masterKeyFile?: string;
  readonly trustedProxies?: readonly string[];
  /** Origins whose pages may call the API from a browser; default none. */
  readonly allowOrigins?: readonly string[];
  /** How many tasks may wait; see {@link QueueLimits} for the defaults. The same on every node. */
  readonly queueLimits?: Partial<QueueLimits>;
  /** Folder of the agent's executables that are served; default as executablesFolder says. */
  readonly agentExecutables?: string | undefined;
  /** Life of agents' certificates in milliseconds; default 30 days. */
  readonly agentLeafMs?: number;
  /** Life of the node's own certificate in milliseconds; default 30 days. */
  readonly nodeLeafMs?: number;
}

export interface NodeDeps {
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
  /** The node has no place in the cluster any more; one that was removed takes nothing new by then and should be stopped. */
  readonly onEnded?: (why: "replaced" | "removed") => void;
}

/** Stands for a port that the system is yet to choose. */
const anyPort = 1;

/** A node that stops gives its agents this long to move their homes; scripts go on meanwhile. */
const handOverMs = 10_000;
/** All of a stop. What takes longer is left as it is: the next start finds what a crash would have left. */
const stopMs = 20_000;

export interface HoldfastNode extends Service {
  readonly id: NodeId;
  readonly apiAddress: { readonly host: string; readonly port: number };
  readonly agentPort: number;
  /** True when this start created the cluster. */
  readonly origin: ClusterTrust["origin"];
  /** An enrolment token for the first agent, made when this start created the cluster; valid for an hour. */
  readonly firstToken: string | undefined;
  /** Takes nothing new; agents are asked to use other nodes. */
  drain(): Promise<void>;
  /** What had not stopped when `stop` resolved, 20 s after it began; it would keep the process, which is to exit. */
  readonly left: readonly string[];
}

/**
 * Starts a node and resolves when it serves. Throws AppError: `database.unavailable`, `database.schema`,
 * `master-key.wrong`, `node.removed`, `node.clock`, `node.version`, `config.invalid` (a port in use).
 */
export async function startNode(deps: NodeDeps, options: NodeOptions): Promise<HoldfastNode> {
  const { logger, clock = systemClock, random = new SystemRandom() } = deps;
  const started: Begun[] = [];
  const begin = async <T extends Service>(name: string, service: T): Promise<T> => {
    await service.start();
    started.push({ name, service });
    return service;
  };
  const background = new Background({ logger });
  try {
    return await assemble({ logger, clock, random, background, begin, started, onEnded: deps.onEnded }, options);
  } catch (cause) {
    await stopAll(started.map(({ service }) => service));
    await background.settle();
    throw cause;
  }
}

interface Begun {
  readonly name: string;
  readonly service: Service;
}

interface Workshop {
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
  readonly background: Background;
  readonly begin: <T extends Service>(name: string, service: T) => Promise<T>;
  readonly started: Begun[];
  readonly onEnded: NodeDeps["onEnded"];
}

async function assemble(shop: Workshop, options: NodeOptions): Promise<HoldfastNode> {
  const { logger, clock, random, background, begin, started, onEnded } = shop;
  const name = checkedNodeName(options.name);
  // Judged before anything is written; the port that a free choice gets is filled in once the listener has it.
  agentAddresses(options.advertise, options.agentListen.host, options.agentListen.port || anyPort);
  const ids = createIdSource({ clock, random });
  const bootId = newId(ids, bootIdSchema);
  const registry = new Registry();
  const database = await begin(
    "database",
    new Database({ logger, onStatement: databaseSeconds(registry) }, { url: options.databaseUrl }),
  );
  const { dataDirectory, version, intent = "start" } = options;
  const node = await judgeJoin({ database, ids, clock }, { dataDirectory, version, intent });
  await migrate(database);
  await ensurePartitions(database, clock);
  const masterKey = await loadMasterKey(
    { random },
    {
      path: options.masterKeyFile ?? `${options.dataDirectory}/master.key`,
      create: options.masterKeyFile === undefined ? "allowed" : "forbidden",
    },
  );
  const vault = createSecretVault(masterKey);
  const trust = await openClusterTrust({ database, masterKey, ids, clock, random });
  await adminKey({ database, ids, random }, { dataDirectory: options.dataDirectory, origin: trust.origin });

  const queue = await begin(
    "queue",
    new QueueBounds(
      { sql: database.durable, clock, background, logger },
      { ...defaultQueueLimits, ...options.queueLimits },
    ),
  );
  gauge(registry, "holdfast_queue_tasks", "Queued attempts of the cluster, as this node knows", () => queue.total);
  const plainStore = createPostgresStore(database, queue);
  const { store, meters } = meteredStore(plainStore, registry);
  const loopDelay = eventLoopDelay(registry);
  const followers = await begin("followers", new Followers({ database, clock, background }));
  const targets = new Targets({ sql: database.durable, clock });
  const refusals = await begin(
    "refusals",
    new Refusals({ write: (notes) => writeRefusals(database.relaxed, node, notes), clock, background, logger }),
  );
  const couriers = createCouriers(
    {
      store,
      cluster: createPostgresClusterStore(database),
      vault,
      clock,
      defer: afterThisTurn,
      background,
      logger,
      renew: (renewal) => renewAgent({ database, trust: () => trust, clock, random }, renewal, options.agentLeafMs),
      random,
      onEnded: (why) => onEnded?.(why),
      joined: () => hints.publish("nodes"),
      refused: (agent, reason) => refusals.note(agent, reason),
      changed: (attempt) => followers.changed(attempt),
      ended: (tasks) => {
        meters.ended("given-up", tasks.length);
        for (const task of tasks) followers.wake(task);
      },
    },
    { node: { id: node, name }, bootId },
  );
  const { dispatcher, members, wake } = couriers;
  const hints = new Hints(
    { database, clock, background, logger },
    {
      bootId,
      onHint(kind, agents) {
        if (kind === "trust") targets.forget();
        couriers.hint(kind, agents);
      },
    },
  );

  let useIdentity: (identity: AgentListenerIdentity) => void = () => undefined;
  const leaf = await begin(
    "certificate",
    new NodeLeaf(
      {
        database,
        trust: () => trust,
        clock,
        random,
        background,
        logger,
        onRenewed: () => useIdentity(listenerIdentity(leaf, trust)),
      },
      { nodeId: node, ...(options.nodeLeafMs === undefined ? {} : { lifetimeMs: options.nodeLeafMs }) },
    ),
  );
  gauge(registry, "holdfast_node_certificate_expiry_seconds", "Seconds until this node's certificate expires", () =>
    Math.round((leaf.notAfterMs - clock.wallMs()) / 1_000),
  );
  const enrolment = createEnrolment(
    {
      database,
      trust: () => trust,
      node: () => leaf.current(),
      nonces: createNonces({ clock, random }, { key: masterKey.derive("enrolment nonce") }),
      ids,
      clock,
      random,
      nodes: members,
    },
    options.agentLeafMs === undefined ? {} : { agentLeafMs: options.agentLeafMs },
  );
  const announce = (what: "cancel" | "trust", agent: AgentId): void => {
    hints.publish(what, [agent]);
    if (what === "cancel") wake.cancels();
    else {
      targets.forget();
      wake.trust();
    }
  };
  const nodesCaPin = (): string => pinOf(readTrustAnchor(trust.nodesCa));
  const downloads = new ExecutableFolder(
    { logger },
    { folder: executablesFolder(options.agentExecutables, options.dataDirectory) },
  );
  const backend = createBackend(
    {
      database,
      followers,
      ids,
      clock,
      random,
      announce,
      tell(what, agents) {
        hints.publish(what, agents);
        couriers.hint(what, agents);
      },
      nodesCaPin,
      downloads,
      admitOne: (agent) => queue.admitOne(agent),
      isDraining: () => couriers.isDraining,
      submitting: {
        store,
        vault,
        dispatcher,
        ids,
        clock,
        targets,
        earlier: async (key) => {
          const [row] = await readEarlier(database.durable, [key]);
          if (row === undefined) return undefined;
          return { id: row.id, digest: Buffer.from(row.body_sha256).toString("hex"), tasks: row.tasks };
        },
        offline: (agents) => offlineAgents(database.durable, agents),
        hint: (agents) => hints.publish("work", agents),
      },
    },
    { node, nodeName: name, version: options.version },
  );
  const door = createAgentsDoor(
    {
      database,
      couriers,
      registry,
      clock,
      background,
      logger,
      anchors: () => trust.agentAnchors,
      isOpen: () => !couriers.isDraining,
      refusals,
    },
    { listen: options.agentListen, identity: listenerIdentity(leaf, trust) },
  );
  useIdentity = (identity) => door.useIdentity(identity);
  const api = new ApiServer(
    { backend, enrolment, downloads, clock, ids, logger, registry },
    {
      ...options.apiListen,
      trustedProxies: options.trustedProxies ?? [],
      allowOrigins: options.allowOrigins ?? [],
      version: options.version,
    },
  );
  // Once it has joined, agents are told of it and dial it for a day, also when it then cannot serve.
  await api.judgeAddress();
  await begin("agents' listener", door);
  await members.join({
    id: node,
    name,
    bootId,
    version: options.version,
    addresses: agentAddresses(options.advertise, options.agentListen.host, door.port),
  });
  await begin("node list", members);
  await begin("hints", hints);
  await begin("wake", wake);
  await begin("API", api);
  await begin("housekeeping", new Housekeeping({ database, clock, background, logger }));
  const drain = (): Promise<void> => {
    couriers.drain();
    return Promise.resolve();
  };
  const stopSteps = (): StopStep[] => [
    { name: "homes", act: () => couriers.handOver(handOverMs) },
    {
      name: "couriers",
      act: () => {
        loopDelay.stop();
        couriers.stop();
      },
    },
    { name: "agents' listener", act: () => door.stop() },
    { name: "writes under way", act: () => plainStore.settle() },
    // Everything but the database; its last words (presence, released offers) still have to be stored.
    ...started
      .filter(({ service }) => service !== database)
      .toReversed()
      .map(({ name: step, service }) => ({ name: step, act: () => service.stop() })),
    { name: "work in the background", act: () => background.settle() },
    { name: "database", act: () => database.stop() },
  ];
  let stopping: Promise<void> | undefined;
  let left: readonly string[] = [];
  return {
    id: node,
    apiAddress: api.address,
    agentPort: door.port,
    origin: trust.origin,
    firstToken: await firstToken(
      { sql: database.durable, ids, random, nodesCaPin },
      { origin: trust.origin, downloads },
    ),
    drain,
    get left() {
      return left;
    },
    start: () => Promise.reject(new AppError("internal", "a node is started by startNode")),
    stop() {
      stopping ??= stopInSteps({ clock, logger }, stopSteps(), stopMs).then((what) => void (left = what));
      return stopping;
    },
  };
}

function listenerIdentity(leaf: NodeLeaf, trust: ClusterTrust): AgentListenerIdentity {
  const { certificatePem, privateKeyPem } = leaf.current();
  return { key: privateKeyPem, cert: certificatePem, ca: trust.agentsCaPems };
}
