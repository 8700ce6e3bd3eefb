// The set of connections: one per listed node, and the seeds while no session is open. Leaves one connection's life to
// connection.ts and the list to node-addresses.ts.
// Invariant: a working session ends for a changed list only when its node is no longer listed and another session is open;
// it ends then, also when the other one opens long after the list came.
import type { Clock, Timer } from "../shared/clock.ts";
import type { NodeId } from "../shared/ids.ts";
import { sha256Hex } from "../shared/thumbprint.ts";
import { closeCode } from "../shared/wire/close-code.ts";
import type { ListedNode, NodeList } from "../shared/wire/nodes.ts";
import { Connection } from "./connection.ts";
import type { ConnectionDeps, Session } from "./connection.ts";
import type { DialTarget } from "./dial.ts";
import { newerList } from "./node-addresses.ts";
import { keptOf } from "./reach.ts";
import type { SessionNo } from "./roster-event.ts";

/** A node that asked us to go is left alone for this long, and up to as long again so that agents do not return together. */
const goneAwayMs = 5_000;
/** As the first step of a connection's own back-off. */
const dialAgainMs = 500;

export interface ConnectionsDeps extends ConnectionDeps {
  readonly clock: Clock;
  /** A list that counts now: keep it for the next start. */
  readonly onList: (list: NodeList) => void;
  /** The target of one address, with the certificate of this moment. */
  readonly target: (address: string, node: NodeId | undefined) => DialTarget;
}

export interface ConnectionsOptions {
  readonly seeds: readonly string[];
  readonly list: NodeList;
  /** The nodes to keep to, whatever the list says. With none of them the seeds are all there is to dial. */
  readonly only?: readonly NodeId[];
  /** Spreads agents over nodes when the list wants fewer sessions than it has nodes. */
  readonly agentId: string;
  /** Listed nodes get this long before seeds are tried as well, and each time no session comes of it. Default 3,000. */
  readonly seedAfterMs?: number;
}

export interface ConnectionView {
  /** The listed node's name, or a seed's address. */
  readonly node: string;
  /** Of a seed: the node that its session reached, undefined while it has none. */
  readonly id: NodeId | undefined;
  readonly state: Connection["kind"];
  readonly lastEnd: string | undefined;
}

export class Connections {
  readonly #deps: ConnectionsDeps;
  readonly #options: ConnectionsOptions;
  readonly #nodes = new Map<NodeId, { readonly connection: Connection; listed: ListedNode }>();
  readonly #seeds = new Map<string, Connection>();
  readonly #sessions = new Map<SessionNo, Session>();
  #list: NodeList;
  #seedTimer: Timer | undefined;
  #stage: "new" | "running" | "stopped" = "new";

  constructor(deps: ConnectionsDeps, options: ConnectionsOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#list = options.list;
  }

  start(): void {
    this.#stage = "running";
    this.#adopt(this.#list);
    if (this.#nodes.size === 0) this.#trySeeds();
    else this.#armSeeds();
  }

  stop(): void {
    this.#stage = "stopped";
    this.#seedTimer?.cancel();
    for (const connection of this.#all()) connection.stop();
  }

  /** Sessions in the order they were opened. */
  get sessions(): readonly Session[] {
    return [...this.#sessions.values()];
  }

  views(): ConnectionView[] {
    const nodes = [...this.#nodes.values()].map(({ connection, listed }) => ({
      node: listed.name,
      id: listed.id,
      state: connection.kind,
      lastEnd: connection.lastEnd,
    }));
    const seeds = [...this.#seeds].map(([address, connection]) => ({
      node: address,
      id: connection.session?.welcome.node.id,
      state: connection.kind,
      lastEnd: connection.lastEnd,
    }));
    return [...nodes, ...seeds];
  }

  list(heard: NodeList): void {
    const list = newerList(this.#list, heard);
    if (list === this.#list) return;
    const isNews = JSON.stringify(list) !== JSON.stringify(this.#list);
    this.#list = list;
    if (!isNews) return;
    this.#deps.onList(list);
    this.#adopt(list);
  }

  closeSession(session: SessionNo): void {
    const reason = "moved away as asked";
    const through = this.#of(session);
    const own = this.#ownOf(session) ?? through;
    // First: one that rests would dial as soon as the session ends, and meet the node that asked.
    own?.pause(reason, goneAwayMs + goneAwayMs * this.#deps.random.unit());
    if (through !== own) through?.rest(closeCode.goingAway, reason);
  }

  /** Ends and reopens one session, for a new certificate. */
  redial(session: SessionNo, reason: string): void {
    const through = this.#of(session);
    const own = this.#ownOf(session) ?? through;
    if (own === through) {
      own?.redial(reason);
      return;
    }
    through?.rest(closeCode.goingAway, reason);
    own?.start();
  }

  #all(): Connection[] {
    return [...this.#seeds.values(), ...[...this.#nodes.values()].map(({ connection }) => connection)];
  }

  #of(session: SessionNo): Connection | undefined {
    return this.#all().find((connection) => connection.session?.no === session);
  }

  /** The connection of the node that the session is with, which may have come about through a seed. */
  #ownOf(session: SessionNo): Connection | undefined {
    const id = this.#sessions.get(session)?.welcome.node.id;
    return id === undefined ? undefined : this.#nodes.get(id)?.connection;
  }

  /** Dials what is new and listed, lets go of what is not listed any more. */
  #adopt(list: NodeList): void {
    if (this.#stage !== "running") return;
    const wanted = this.#wanted(list);
    for (const listed of wanted) {
      const known = this.#nodes.get(listed.id);
      if (known === undefined)
        this.#nodes.set(listed.id, { connection: this.#nodeConnection(listed.id, listed.name), listed });
      else known.listed = listed;
    }
    for (const listed of wanted) {
      const connection = this.#nodes.get(listed.id)?.connection;
      if (connection !== undefined) this.#startUnlessMet(listed.id, connection);
    }
    this.#dropUnlisted();
    if (this.#sessions.size > 0) this.#restSeeds();
  }

  #wanted(list: NodeList): readonly ListedNode[] {
    return chosen(keptOf(list, this.#options.only), this.#options.agentId);
  }

  /** Keeps one that is all there is; it goes once another session is open. */
  #dropUnlisted(): void {
    const wanted = new Set(this.#wanted(this.#list).map(({ id }) => id));
    for (const [id, { connection }] of this.#nodes) {
      if (wanted.has(id) || (connection.session !== undefined && this.#sessions.size <= 1)) continue;
      this.#nodes.delete(id);
      connection.stop();
    }
  }

  /** A node we already reach through a seed address is not dialled a second time: the newer session would end the other. */
  #startUnlessMet(id: NodeId, connection: Connection): void {
    const isMet = [...this.#sessions.values()].some((session) => session.welcome.node.id === id);
    if (!isMet) connection.start();
  }

  #nodeConnection(id: NodeId, name: string): Connection {
    const targets = (): DialTarget[] =>
      (this.#nodes.get(id)?.listed.addresses ?? []).map((address) => this.#deps.target(address, id));
    return this.#connection({ label: name, targets });
  }

  #connection(
    options: { readonly label: string; readonly targets: () => readonly DialTarget[] },
    seed?: string,
  ): Connection {
    return new Connection(
      {
        ...this.#deps,
        onOpened: (session) => {
          this.#sessions.set(session.no, session);
          this.#seedTimer?.cancel();
          this.#deps.onOpened(session);
          this.list(session.welcome.nodes);
          this.#dropUnlisted();
          this.#restSeeds();
          this.#restMet();
        },
        onEnded: (session) => {
          const ended = this.#sessions.get(session);
          this.#sessions.delete(session);
          this.#deps.onEnded(session);
          if (this.#stage !== "running") return;
          if (this.#sessions.size === 0) this.#armSeeds();
          const own = ended === undefined ? undefined : this.#nodes.get(ended.welcome.node.id);
          if (own === undefined) return;
          if (seed !== undefined && own.listed.addresses.includes(seed))
            this.#seeds.get(seed)?.rest(closeCode.goingAway, "its node's own connection dials that address");
          // What rested because this session reached its node has to dial for itself now, but not all agents at once.
          if (own.connection.kind === "idle")
            own.connection.pause("its session ended", dialAgainMs * this.#deps.random.unit());
        },
      },
      options,
    );
  }

  #armSeeds(): void {
    this.#seedTimer?.cancel();
    this.#seedTimer = this.#deps.clock.after(this.#options.seedAfterMs ?? 3_000, () => {
      if (this.#sessions.size === 0 && this.#stage === "running") this.#trySeeds();
    });
  }

  /** The last known addresses too: nodes may have changed places while the agent was away. */
  #trySeeds(): void {
    const { seeds, only } = this.#options;
    const lastKnown = keptOf(this.#list, only).nodes.flatMap(({ addresses }) => addresses);
    for (const address of new Set([...seeds, ...lastKnown])) {
      const known = this.#seeds.get(address);
      // One that waits dials by its own back-off.
      if ((known !== undefined && known.kind !== "idle") || this.#isDialled(address)) continue;
      const connection =
        known ??
        this.#connection({ label: `seed ${address}`, targets: () => [this.#deps.target(address, undefined)] }, address);
      this.#seeds.set(address, connection);
      connection.start();
    }
    this.#armSeeds();
  }

  /**
   * By a listed node's own connection, to which nobody else has answered there: where that one does not get in, a seed would
   * not either, and after an outage each agent would cost a node two handshakes.
   */
  #isDialled(address: string): boolean {
    return [...this.#nodes.values()].some(
      ({ connection }) => connection.dialled === address && connection.kind !== "idle" && !connection.metStranger,
    );
  }

  /**
   * With a session open, seeds that are still trying rest; one that is the session stays until its node's own is open, or
   * any other when its node is none that this agent dials.
   */
  #restSeeds(): void {
    for (const seed of this.#seeds.values()) {
      const id = seed.session?.welcome.node.id;
      const isStranger = id !== undefined && this.#nodes.size > 0 && !this.#nodes.has(id) && this.#sessions.size > 1;
      const isOnlyWay = id !== undefined && !isStranger && this.#nodes.get(id)?.connection.session === undefined;
      if (!isOnlyWay) seed.rest(closeCode.goingAway, "seeds are used only while no session is open");
    }
  }

  /**
   * A node that was reached through a seed at one of its own addresses is not dialled there once more: when all agents come
   * back together, each would cost it two handshakes. Its own connection dials again when that session ends.
   */
  #restMet(): void {
    for (const [address, { session }] of this.#seeds) {
      const own = session === undefined ? undefined : this.#nodes.get(session.welcome.node.id);
      if (own === undefined || own.connection.session !== undefined) continue;
      if (own.listed.addresses.includes(address)) own.connection.rest(closeCode.goingAway, "reached through a seed");
    }
  }
}

/** The nodes this agent holds sessions with: all, or the `want` that rank highest for it (rendezvous hashing). */
export function chosen(list: NodeList, agentId: string): readonly ListedNode[] {
  if (list.want === 0 || list.want >= list.nodes.length) return list.nodes;
  const ranked = list.nodes.map((node) => ({ node, weight: sha256Hex(`${agentId} ${node.id}`) }));
  return ranked
    .toSorted((a, b) => (a.weight < b.weight ? 1 : -1))
    .slice(0, list.want)
    .map(({ node }) => node);
}
