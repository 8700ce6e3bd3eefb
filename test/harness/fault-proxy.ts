// A TCP forwarder that does to connections what networks do, per direction and while it runs: delay, jitter, throttle, parted
// and joined pieces, pause, black hole, half close, reset, and a cut after an exact byte or frame. By seed, so that a run can
// be had again. It works below TLS and knows nothing of what it carries. Leaves no socket behind.
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { systemClock, type Clock } from "../../shared/clock.ts";
import { Lane } from "./fault-lane.ts";
import type { CutAct, LanePlan } from "./fault-plan.ts";
import { seeded } from "./seeded.ts";

export type Direction = "toTarget" | "toClient";
export type ConnectionPlan = Readonly<Partial<Record<Direction, LanePlan>>>;

export interface Target {
  readonly host: string;
  readonly port: number;
}

export interface FaultProxyOptions {
  /** A function when the target is not known yet; asked for each connection. */
  readonly target: Target | (() => Target);
  readonly seed?: number;
  /** Asked once per connection, by its number from 0; {@link FaultProxy.change} replaces it for those open and to come. */
  readonly plan?: (connection: number) => ConnectionPlan;
  readonly clock?: Pick<Clock, "monotonicMs" | "sleep">;
}

export interface SeenConnection {
  readonly number: number;
  /** Bytes passed on so far. */
  readonly toTarget: number;
  readonly toClient: number;
  readonly cut: CutAct | undefined;
}

interface Connection {
  readonly number: number;
  readonly near: Socket;
  readonly far: Socket;
  readonly lanes: Readonly<Record<Direction, Lane>>;
  cut: CutAct | undefined;
}

export class FaultProxy implements AsyncDisposable {
  readonly #options: FaultProxyOptions;
  readonly #unit: () => number;
  readonly #server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => this.#accept(near));
  readonly #connections: Connection[] = [];
  #plan: (connection: number) => ConnectionPlan;
  #gate: "open" | "shut" = "open";
  #port = 0;

  private constructor(options: FaultProxyOptions) {
    this.#options = options;
    this.#unit = seeded(options.seed ?? 1);
    this.#plan = options.plan ?? (() => ({}));
  }

  static async start(options: FaultProxyOptions): Promise<FaultProxy> {
    const proxy = new FaultProxy(options);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    const address = proxy.#server.address();
    if (typeof address === "object" && address !== null) proxy.#port = address.port;
    return proxy;
  }

  get port(): number {
    return this.#port;
  }

  /** Every connection there was, oldest first. */
  get connections(): readonly SeenConnection[] {
    return this.#connections.map(({ number, lanes, cut }) => ({
      number,
      toTarget: lanes.toTarget.passed,
      toClient: lanes.toClient.passed,
      cut,
    }));
  }

  /** Connections that a cut point has acted on. */
  get cuts(): number {
    return this.#connections.filter(({ cut }) => cut !== undefined).length;
  }

  /** From now on, for the connections that are open and those that come. */
  change(plan: ConnectionPlan): void {
    this.#plan = () => plan;
    for (const { lanes } of this.#connections) {
      lanes.toTarget.change(plan.toTarget ?? {});
      lanes.toClient.change(plan.toClient ?? {});
    }
  }

  /** Resets what is open. */
  reset(): void {
    for (const { near, far } of this.#connections) for (const socket of [near, far]) socket.resetAndDestroy();
  }

  /** Resets what is open and what comes, until {@link open}: as a host whose port nobody serves. */
  shut(): void {
    this.#gate = "shut";
    this.reset();
  }

  open(): void {
    this.#gate = "open";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { near, far } of this.#connections) for (const socket of [near, far]) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(near: Socket): void {
    if (this.#gate === "shut") {
      near.resetAndDestroy();
      return;
    }
    const { target, clock = systemClock } = this.#options;
    const far = connect({ ...(typeof target === "function" ? target() : target), allowHalfOpen: true, noDelay: true });
    const number = this.#connections.length;
    const plan = this.#plan(number);
    const onCut = (act: CutAct): void => void (connection.cut = act);
    const deps = { clock, unit: this.#unit, onCut };
    const connection: Connection = {
      number,
      near,
      far,
      lanes: {
        toTarget: new Lane({ ...deps, source: near, sink: far }, plan.toTarget ?? {}),
        toClient: new Lane({ ...deps, source: far, sink: near }, plan.toClient ?? {}),
      },
      cut: undefined,
    };
    this.#connections.push(connection);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      // A reset of one side is one of the other; an end travels through the lanes instead.
      socket.on("error", () => other.resetAndDestroy());
      socket.once("close", () => {
        if (!socket.readableEnded) other.destroy();
      });
    }
  }
}
