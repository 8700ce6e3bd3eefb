// Watches one connection for life. Any frame or pong counts. The agent's side also pings; the node pings only suspects.
import type { Clock, Timer } from "./clock.ts";

export interface HeartbeatDeps {
  readonly clock: Clock;
  readonly ping: () => void;
  /** Called once when nothing arrived for `silenceMs`. */
  readonly onSilent: () => void;
}

export interface HeartbeatOptions {
  /** Period of own pings in milliseconds; 0 sends none. */
  readonly pingMs: number;
  /** Receiving silence that ends the connection. */
  readonly silenceMs: number;
}

export class Heartbeat {
  readonly #deps: HeartbeatDeps;
  readonly #options: HeartbeatOptions;
  #pinging: Timer | undefined;
  #watching: Timer | undefined;
  #lastMs = 0;

  constructor(deps: HeartbeatDeps, options: HeartbeatOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  start(): void {
    this.#lastMs = this.#deps.clock.monotonicMs();
    if (this.#options.pingMs > 0) this.#pinging = this.#deps.clock.every(this.#options.pingMs, this.#deps.ping);
    this.#watch(this.#options.silenceMs);
  }

  /** Something arrived. */
  heard(): void {
    this.#lastMs = this.#deps.clock.monotonicMs();
  }

  /** Milliseconds since something arrived. */
  get silentMs(): number {
    return this.#deps.clock.monotonicMs() - this.#lastMs;
  }

  stop(): void {
    this.#pinging?.cancel();
    this.#watching?.cancel();
  }

  #watch(delayMs: number): void {
    this.#watching = this.#deps.clock.after(delayMs, () => {
      const leftMs = this.#options.silenceMs - this.silentMs;
      if (leftMs > 0) this.#watch(leftMs);
      else this.#deps.onSilent();
    });
  }
}
