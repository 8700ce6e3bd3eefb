// Runs one agent as a process: start-up refusals, signals, exit code. Joins nothing itself.
import { systemClock } from "../shared/clock.ts";
import { AppError, errorRows } from "../shared/errors.ts";
import type { Logger } from "../shared/logger.ts";
import { createLogger } from "../shared/logger.ts";
import type { Agent, AgentDeps, AgentStatus } from "./agent.ts";
import { createAgent } from "./agent.ts";
import type { AgentConfig } from "./config.ts";
import { forbidCoreDumps } from "./core-dumps.ts";
import { hostBootId } from "./host.ts";
import { closeInherited } from "./inherited-descriptors.ts";
import { openNotifier } from "./service/notifier.ts";
import { checkStart } from "./start-checks.ts";
import { watchPending } from "./update/pending.ts";

export interface RunAgentOptions extends AgentConfig {
  /** How long the work folder of a failed attempt is kept. Default 0: not at all. */
  readonly keepFailedMs?: number;
  /** A shell command that restarts this agent, for updates that the cluster asks for. */
  readonly restartCommand?: string | undefined;
  /** Written once the first session is open; for service managers and tests. */
  readonly onReady?: () => void;
}

/** Lets messages of a drain leave before the sockets close. Milliseconds. */
const drainMs = 200;

/**
 * Resolves with the exit code when the agent has ended: 0 after TERM or INT (scripts are left running), 143 or 130 when
 * the signal came twice, 77 or 78 when the cluster refuses this identity, the code of errors.ts for anything else.
 */
export async function runAgent(options: RunAgentOptions): Promise<number> {
  const logger = createLogger({ level: options.logLevel, fields: { part: "agent" } });
  let agent: Agent | undefined;
  const from = { environment: process.env, processId: process.pid };
  const notifier = openNotifier({ clock: systemClock, logger }, from);
  try {
    const facts = {
      environment: process.env,
      execArgv: process.execArgv,
      nodeVersion: process.version,
      wallMs: systemClock.wallMs(),
    };
    const inherited = closeInherited();
    if (inherited.length > 0) logger.debug({ descriptors: inherited }, "closed what the agent's starter had left open");
    for (const warning of checkStart(facts)) logger.warn({}, warning);
    if (!(await forbidCoreDumps(process.pid))) logger.debug({}, "core dumps are left as they were set");
    const { promise: fatal, resolve: onFatal } = Promise.withResolvers<AppError>();
    const onReady = (): void => {
      notifier?.look();
      options.onReady?.();
    };
    const { dataPath, slots, keepFailedMs = 0, restartCommand } = options;
    const deps: AgentDeps = { logger, onFatal, onReady };
    const running = createAgent({ dataPath, slots, keepFailedMs, restartCommand }, deps);
    agent = running;
    const signals = listenForSignals();
    const pending = new AbortController();
    try {
      await running.start();
      notifier?.ready(() => describeStatus(running.status()));
      void watchPending(
        {
          clock: systemClock,
          logger,
          greeted: () => running.status().nodes.some(({ state }) => state === "open"),
          signal: pending.signal,
        },
        { executable: process.execPath, hostBootId: hostBootId() },
      ).then(
        (why) => {
          if (why === undefined) return;
          logger.error({ err: why, mend: why.mend }, why.message);
          onFatal(why);
        },
        (cause: unknown) => logger.warn({ err: cause }, "cannot look after an update that was cut off"),
      );
      const end = await Promise.race([signals.first, fatal]);
      if (end instanceof AppError) {
        notifier?.stopping(end.message);
        return errorRows[end.code].exitCode;
      }
      notifier?.stopping("draining: running scripts go on");
      logger.info({ signal: end }, "draining: no new work is taken, running scripts go on");
      return await Promise.race([endOrderly(running), signals.second]);
    } finally {
      pending.abort();
      signals.stop();
    }
  } catch (cause) {
    const error = AppError.from(cause);
    notifier?.stopping(error.message);
    return report(error, logger);
  } finally {
    await agent?.stop();
    notifier?.stop();
  }
}

/** For `systemctl status`: one line, nothing that a log does not hold as well. */
function describeStatus({ name, state, nodes, attempts }: AgentStatus): string {
  const open = nodes.filter((node) => node.state === "open").length;
  return `${name}: ${state}, connected to ${open} of ${nodes.length} addresses dialled, ${attempts.running} scripts run`;
}

async function endOrderly(agent: Agent): Promise<number> {
  agent.drain();
  await systemClock.sleep(drainMs);
  await agent.stop();
  return 0;
}

function listenForSignals(): {
  readonly first: Promise<string>;
  readonly second: Promise<number>;
  readonly stop: () => void;
} {
  const first = Promise.withResolvers<string>();
  const second = Promise.withResolvers<number>();
  let seen = 0;
  const listen = (signal: "SIGTERM" | "SIGINT"): (() => void) => {
    const act = (): void => {
      seen += 1;
      if (seen === 1) first.resolve(signal);
      else second.resolve(signal === "SIGTERM" ? 143 : 130);
    };
    process.on(signal, act);
    return () => process.off(signal, act);
  };
  const stops = [listen("SIGTERM"), listen("SIGINT")];
  return { first: first.promise, second: second.promise, stop: () => stops.forEach((stop) => stop()) };
}

function report(error: AppError, logger: Logger): number {
  logger.error({ err: error, code: error.code, mend: error.mend }, error.message);
  return errorRows[error.code].exitCode;
}
