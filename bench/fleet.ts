// Many agents in one process, as far as a node sees them: the shipped connections (dial, TLS options, greeting, heartbeat,
// back-off, seeds) without journal, engine and disk. Or, against a server that knows no greeting, the shipped dial and
// heartbeat alone. Counts what the fleet sees; a storm is timed from the first TCP connect after `watch`.
import { Connections } from "../agent/connections.ts";
import { dial, type Dial, type DialEnd, type DialStage, type DialTarget } from "../agent/dial.ts";
import { defaultRosterOptions } from "../agent/roster-event.ts";
import { anyNodeName, nodeName } from "../certs/profile.ts";
import { systemClock as clock } from "../shared/clock.ts";
import { errnoOf } from "../shared/errors.ts";
import { Heartbeat } from "../shared/heartbeat.ts";
import { bootIdSchema, createIdSource, journalIdSchema, newId, type NodeId } from "../shared/ids.ts";
import type { FrameSocket } from "../shared/link.ts";
import { silentLogger as logger } from "../shared/logger.ts";
import { SystemRandom } from "../shared/random.ts";
import { ownVersion } from "../shared/version.ts";
import { closeCode } from "../shared/wire/close-code.ts";
import type { Hello } from "../shared/wire/hello.ts";
import { ownProtocols } from "../shared/wire/version.ts";
import { defaultTimings } from "../shared/wire/welcome.ts";
import type { FleetPlan } from "./fleet-plan.ts";

const random = new SystemRandom();

export interface FleetOptions {
  readonly agents: number;
  /** `host:port` of the node or of the bare server. */
  readonly address: string;
  readonly peer: "node" | "bare";
}

type Tally = Readonly<Record<string, number>>;

/** Times in milliseconds since the node listened again; undefined until it was so. */
export interface FleetState {
  readonly connected: number;
  /** Calendar time. */
  readonly listenedAtMs: number | undefined;
  readonly reached95Ms: number | undefined;
  readonly reached100Ms: number | undefined;
  /** Since the node listened. */
  readonly dials: number;
  /** Answered 503 by admission control: the agent comes again when told. */
  readonly heldBack: number;
  /** Any other failure or refusal, by what the agent was told. */
  readonly errors: Tally;
  /** Ends while nobody listened: not the node's errors. */
  readonly whileDown: Tally;
}

const ids = createIdSource({ clock, random });
const orderlyCloses: ReadonlySet<number> = new Set([1000, closeCode.goingAway, closeCode.replaced]);

export class Fleet {
  readonly #plan: FleetPlan;
  readonly #options: FleetOptions;
  readonly #stops: (() => void)[] = [];
  readonly #opening = new Map<number, () => void>();
  readonly #connected = new Set<number>();
  #sessionNo = 0;
  #listenedAtMs: number | undefined;
  #reached95Ms: number | undefined;
  #reached100Ms: number | undefined;
  #dials = 0;
  #heldBack = 0;
  #errors = new Map<string, number>();
  #whileDown = new Map<string, number>();

  constructor(plan: FleetPlan, options: FleetOptions) {
    this.#plan = plan;
    this.#options = options;
  }

  /** Connects every agent once, so many at a time; resolves with the milliseconds that took. */
  async start(atOnce: number): Promise<number> {
    this.watch();
    const startMs = clock.monotonicMs();
    const left = Array.from({ length: this.#options.agents }, (_, index) => index).values();
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        for (const index of left) {
          await new Promise<void>((resolve) => {
            this.#opening.set(index, resolve);
            if (this.#options.peer === "node") this.#startAgent(index);
            else this.#startBare(index);
          });
        }
      }),
    );
    return clock.monotonicMs() - startMs;
  }

  /** Counts from nothing: the node is down, and comes back after this. */
  watch(): void {
    this.#listenedAtMs = this.#reached95Ms = this.#reached100Ms = undefined;
    this.#dials = this.#heldBack = 0;
    this.#errors = new Map();
    this.#whileDown = new Map();
  }

  get state(): FleetState {
    return {
      connected: this.#connected.size,
      listenedAtMs: this.#listenedAtMs === undefined ? undefined : performance.timeOrigin + this.#listenedAtMs,
      reached95Ms: this.#reached95Ms,
      reached100Ms: this.#reached100Ms,
      dials: this.#dials,
      heldBack: this.#heldBack,
      errors: Object.fromEntries(this.#errors),
      whileDown: Object.fromEntries(this.#whileDown),
    };
  }

  stop(): void {
    for (const stop of this.#stops.splice(0)) stop();
  }

  readonly #dial: Dial = (target, handlers) => {
    if (this.#listenedAtMs !== undefined) this.#dials += 1;
    let course: DialStage | "open" | "let-go" = "dialled";
    const socket = dial(target, {
      ...handlers,
      onOpen: () => {
        course = "open";
        handlers.onOpen();
      },
      onStage: (stage) => {
        course = stage;
        if (stage !== "connected" || this.#listenedAtMs !== undefined) return;
        this.#listenedAtMs = clock.monotonicMs();
        this.#dials = 1;
      },
      onEnd: (end) => {
        if (course !== "let-go") this.#count(end, course);
        handlers.onEnd(end);
      },
    });
    const terminate = socket.terminate.bind(socket);
    // Before it is open only the agent itself lets go: of a seed, because its node's own address answered.
    socket.terminate = () => {
      if (course !== "open") course = "let-go";
      terminate();
    };
    return socket;
  };

  #count(end: DialEnd, course: string): void {
    if (end.kind === "rejected" && end.status === 503) this.#heldBack += 1;
    else if (end.kind !== "closed" || !orderlyCloses.has(end.code)) {
      const tally = this.#listenedAtMs === undefined ? this.#whileDown : this.#errors;
      const what = wordsOf(end, course);
      tally.set(what, (tally.get(what) ?? 0) + 1);
    }
  }

  #opened(index: number): void {
    this.#connected.add(index);
    this.#opening.get(index)?.();
    this.#opening.delete(index);
    const sinceMs = clock.monotonicMs() - (this.#listenedAtMs ?? 0);
    if (this.#connected.size >= Math.ceil(this.#options.agents * 0.95)) this.#reached95Ms ??= sinceMs;
    if (this.#connected.size === this.#options.agents) this.#reached100Ms ??= sinceMs;
  }

  #target(index: number, address: string, node: NodeId | undefined): DialTarget {
    const { cluster, key, agents, nodesCaPems } = this.#plan;
    const servername = node === undefined ? anyNodeName(cluster) : nodeName(cluster, node);
    const identity = { key, cert: agents[index]?.certificate ?? "", nodesCas: nodesCaPems, servername };
    return { address, identity };
  }

  #startAgent(index: number): void {
    const hello = helloOf(index);
    const { address } = this.#options;
    const connections: Connections = new Connections(
      {
        clock,
        random,
        logger,
        dial: this.#dial,
        nextSessionNo: () => (this.#sessionNo += 1),
        hello: () => hello,
        onOpened: (session) => {
          session.link.send({
            type: "ready",
            work: defaultRosterOptions.workSlots,
            system: defaultRosterOptions.systemSlots,
          });
          this.#opened(index);
        },
        onMessage: (_session, message) => {
          if (message.type === "nodes") connections.list(message);
        },
        onRoundTrip: () => undefined,
        onEnded: () => {
          if (connections.sessions.length === 0) this.#connected.delete(index);
        },
        onRefused: (why) => void this.#errors.set(why.code, (this.#errors.get(why.code) ?? 0) + 1),
        onList: () => undefined,
        target: (at, node) => this.#target(index, at, node),
      },
      {
        seeds: [address],
        list: { version: 0, want: 0, nodes: [] },
        agentId: this.#plan.agents[index]?.id ?? "",
      },
    );
    this.#stops.push(() => connections.stop());
    connections.start();
  }

  #startBare(index: number): void {
    const { address } = this.#options;
    const heartbeat = new Heartbeat(
      { clock, ping: () => socket.ping(), onSilent: () => socket.terminate() },
      defaultTimings,
    );
    const socket: FrameSocket = this.#dial(this.#target(index, address, undefined), {
      onOpen: () => {
        heartbeat.start();
        this.#opened(index);
      },
      onFrame: () => heartbeat.heard(),
      onPong: () => heartbeat.heard(),
      onEnd: () => {
        heartbeat.stop();
        this.#connected.delete(index);
        this.#opening.get(index)?.();
      },
    });
    this.#stops.push(() => socket.close(closeCode.goingAway, "the bench stops"));
  }
}

function helloOf(index: number): Hello {
  const bootId = newId(ids, bootIdSchema);
  return {
    type: "hello",
    protocols: ownProtocols,
    version: ownVersion(),
    bootCounter: 1,
    bootId,
    journalId: newId(ids, journalIdSchema),
    lineage: [bootId],
    attempts: [],
    capabilities: ["no-op", "sh", "bash"],
    host: {
      hostname: `fleet-${index}`,
      os: process.platform,
      arch: process.arch,
      slots: defaultRosterOptions.workSlots,
    },
  };
}

/** How far it had come tells a node that turns away at the door (`connected`) from one that lets an agent down later. */
function wordsOf(end: DialEnd, course: string): string {
  switch (end.kind) {
    case "rejected":
      return `HTTP ${end.status} ${end.detail}`;
    case "failed":
      return `${errnoOf(end.error.cause) ?? end.error.code} when ${course}`;
    case "closed":
      return `closed ${end.code} ${end.reason}`.trim();
  }
}
