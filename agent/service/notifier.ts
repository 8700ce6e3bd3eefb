// Tells the service manager how the agent fares (sd_notify(3)): READY, STATUS, WATCHDOG, STOPPING, through the program
// systemd-notify, for Node has no datagram sockets of Unix. A native module for one message in a minute would be a new
// dependency; a process of 2 ms is none.
// Invariant: at most one such process at a time; what comes meanwhile is merged, the latest value of each variable counts.
import { spawn } from "node:child_process";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { Logger } from "../../shared/logger.ts";

export interface NotifierDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Sends the assignments, such as `READY=1`; answers whether they left. */
  readonly send: (assignments: readonly string[]) => Promise<boolean>;
}

export interface NotifierOptions {
  /** Within which the service manager wants to be fed; undefined: it has no watchdog on us. */
  readonly watchdogMs: number | undefined;
}

type Variable = "READY" | "STATUS" | "WATCHDOG" | "STOPPING";

/** How often the status is looked at where no watchdog asks for more. */
const statusPeriodMs = 30_000;

type State =
  | { readonly kind: "idle" | "stopped" }
  | { readonly kind: "running" | "stopping"; readonly timer: Timer; readonly status: () => string };

export class Notifier {
  readonly #deps: NotifierDeps;
  readonly #options: NotifierOptions;
  readonly #waiting = new Map<Variable, string>();
  #sending: "idle" | "busy" = "idle";
  #shownStatus = "";
  #state: State = { kind: "idle" };

  constructor(deps: NotifierDeps, options: NotifierOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /**
   * The agent is up: said once it has begun to dial, not with its first session. Until then systemd counts it as starting,
   * would end it after TimeoutStartSec and start it again, for as long as the cluster cannot be reached, and hold back what
   * is ordered after it; but scripts are adopted, kept within their limits and their results stored without any node. Whether it
   * is connected is what the status says.
   */
  ready(status: () => string): void {
    if (this.#state.kind !== "idle") return;
    // Half of the limit, as sd_watchdog_enabled(3) advises. A timer of the event loop: one that is stuck feeds nothing.
    const periodMs = this.#options.watchdogMs === undefined ? statusPeriodMs : this.#options.watchdogMs / 2;
    const timer = this.#deps.clock.every(periodMs, () => {
      if (this.#options.watchdogMs !== undefined) this.#waiting.set("WATCHDOG", "1");
      this.look();
      this.#pump();
    });
    this.#state = { kind: "running", timer, status };
    this.#waiting.set("READY", "1");
    this.look();
    this.#pump();
  }

  /** Shows the status now when it has changed. */
  look(): void {
    if (this.#state.kind !== "running") return;
    const status = oneLine(this.#state.status());
    if (status === this.#shownStatus) return;
    this.#shownStatus = status;
    this.#waiting.set("STATUS", status);
    this.#pump();
  }

  /** The end has begun; it is fed on, for a drain may last. */
  stopping(why: string): void {
    if (this.#state.kind === "running") this.#state = { ...this.#state, kind: "stopping" };
    if (this.#state.kind === "stopped") return;
    this.#waiting.set("STOPPING", "1");
    this.#waiting.set("STATUS", oneLine(why));
    this.#pump();
  }

  stop(): void {
    if (this.#state.kind === "running" || this.#state.kind === "stopping") this.#state.timer.cancel();
    this.#state = { kind: "stopped" };
    this.#waiting.clear();
  }

  #pump(): void {
    if (this.#sending === "busy" || this.#waiting.size === 0) return;
    const taken = new Map(this.#waiting);
    this.#waiting.clear();
    this.#sending = "busy";
    const assignments = Array.from(taken, ([variable, value]) => `${variable}=${value}`);
    void this.#deps.send(assignments).then((left) => {
      this.#sending = "idle";
      if (this.#state.kind === "stopped") return;
      if (left) {
        this.#pump();
        return;
      }
      this.#deps.logger.warn({ assignments }, "the service manager could not be told");
      // With the next turn of the timer, unless something newer was said; the watchdog has another half of its limit.
      for (const [variable, value] of taken) if (!this.#waiting.has(variable)) this.#waiting.set(variable, value);
    });
  }
}

/** How long the program may take; it waits up to 5 s for the message to be taken. */
const sendLimitMs = 10_000;

/** Undefined when no service manager asked to be told. `processId` is ours: a watchdog may be meant for another. */
export function openNotifier(
  deps: Omit<NotifierDeps, "send">,
  from: { readonly environment: Readonly<Record<string, string | undefined>>; readonly processId: number },
): Notifier | undefined {
  const { NOTIFY_SOCKET: socket, PATH: path } = from.environment;
  if (socket === undefined || socket === "") return undefined;
  const environment = { NOTIFY_SOCKET: socket, ...(path === undefined ? {} : { PATH: path }) };
  return new Notifier(
    { ...deps, send: (assignments) => runNotify(assignments, environment) },
    { watchdogMs: watchdogLimitMs(from) },
  );
}

/** As sd_watchdog_enabled(3) reads it: the variables may have been meant for a process that started us. */
export function watchdogLimitMs(from: {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly processId: number;
}): number | undefined {
  const { WATCHDOG_USEC: microseconds, WATCHDOG_PID: watched } = from.environment;
  if (microseconds === undefined || !/^[1-9]\d*$/.test(microseconds)) return undefined;
  if (watched !== undefined && Number(watched) !== from.processId) return undefined;
  return Number(microseconds) / 1_000;
}

/** As root the message is sent in our own name, so the unit may listen to nobody else (NotifyAccess=main). */
function runNotify(assignments: readonly string[], env: Readonly<Record<string, string>>): Promise<boolean> {
  return new Promise((done) => {
    const child = spawn("systemd-notify", assignments, {
      env,
      stdio: "ignore",
      timeout: sendLimitMs,
      killSignal: "SIGKILL",
    });
    // A message on its way does not keep an agent from ending.
    child.unref();
    child.on("error", () => done(false));
    child.on("exit", (code) => done(code === 0));
  });
}

/** A line feed would begin another assignment; what a node said may be long. */
function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").slice(0, 200);
}
