// The server process: data directory, database, node, signals. Prints what a person needs next; logs go to stderr.
import { readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join, relative, resolve } from "node:path";
import { systemClock, unlessEnded } from "../shared/clock.ts";
import { AppError, errorRows } from "../shared/errors.ts";
import { createLogger, type LogLevel, type Logger } from "../shared/logger.ts";
import { SystemRandom } from "../shared/random.ts";
import { startAll, stopAll, type Service } from "../shared/service.ts";
import { refuseUnsafeStart } from "../shared/unsafe-start.ts";
import { ownVersion } from "../shared/version.ts";
import { adminKeyFile } from "./admin-key.ts";
import { DataDirectoryLock } from "./data-directory.ts";
import { startNode, type HoldfastNode } from "./node.ts";
import { EmbeddedPostgres } from "./store/embedded.ts";

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface ServerOptions {
  readonly dataDir: string;
  readonly intent: "start" | "join";
  /** A label only; the host's name when absent. */
  readonly name: string | undefined;
  readonly apiListen: HostPort;
  readonly agentListen: HostPort;
  /** host:port agents dial; derived from the listener when empty. */
  readonly advertise: readonly HostPort[];
  /** Absent means the embedded PostgreSQL. */
  readonly databaseUrl: string | undefined;
  readonly masterKeyFile: string | undefined;
  readonly trustedProxies: readonly string[];
  readonly allowOrigins: readonly string[];
  /** Queued tasks of one agent, and in all; more are refused. */
  readonly queuePerAgent: number;
  readonly queueTotal: number;
  /** Folder of the agent's executables that are served. */
  readonly agentExecutables: string | undefined;
  readonly logLevel: LogLevel;
}

/** A process whose node has stopped has nothing more to do. */
const lingerMs = 5_000;

/** Runs until TERM or INT; the first drains and stops, a second ends at once. Resolves with the exit code. */
export async function runServer(given: ServerOptions): Promise<number> {
  refuseUnsafeStart(process.env);
  const options = { ...given, dataDir: resolve(given.dataDir) };
  const name = options.name ?? nameOfHost();
  const logger = createLogger({ level: options.logLevel, fields: { part: "server", node: name } });
  const lock = new DataDirectoryLock({ directory: options.dataDir });
  const embedded = new EmbeddedPostgres(
    { clock: systemClock, random: new SystemRandom(), logger },
    { dataDirectory: options.dataDir },
  );
  const foundations: Service[] = options.databaseUrl === undefined ? [lock, embedded] : [lock];
  // Listening for signals from the first moment: a TERM during the start must not leave PostgreSQL behind.
  const asked = stopSignal(logger);
  const removed = Promise.withResolvers<"removed">();
  await startAll(foundations);
  let node: HoldfastNode | undefined;
  let exitCode: number;
  try {
    node = await startNode(
      { logger, onEnded: (why) => void (why === "removed" && removed.resolve(why)) },
      { ...nodeOptions(options, name), databaseUrl: options.databaseUrl ?? embedded.url },
    );
    if (options.databaseUrl === undefined)
      await writeFile(join(options.dataDir, "database-url"), `${embedded.url}\n`, { mode: 0o600 });
    process.stdout.write(await greeting(options, node, name));
    const why = await Promise.race([asked, removed.promise]);
    logger.info({}, "stopping");
    // Not to be started again by a supervisor: it would be refused.
    exitCode = why === "removed" ? errorRows["node.removed"].exitCode : 0;
  } finally {
    await node?.stop();
    await stopAll(foundations);
  }
  if (node.left.length > 0) process.exit(exitCode);
  unlessEnded(lingerMs, () => {
    logger.warn({ resources: process.getActiveResourcesInfo() }, "stopped, and something still kept the process");
    process.exit(exitCode);
  });
  return exitCode;
}

function nodeOptions(options: ServerOptions, name: string) {
  return {
    dataDirectory: options.dataDir,
    name,
    version: ownVersion(),
    intent: options.intent,
    apiListen: options.apiListen,
    agentListen: options.agentListen,
    advertise: options.advertise.map(({ host, port }) => `${host.includes(":") ? `[${host}]` : host}:${port}`),
    trustedProxies: options.trustedProxies,
    allowOrigins: options.allowOrigins,
    queueLimits: { perAgent: options.queuePerAgent, total: options.queueTotal },
    agentExecutables: options.agentExecutables,
    ...(options.masterKeyFile === undefined ? {} : { masterKeyFile: options.masterKeyFile }),
  };
}

function stopSignal(logger: Logger): Promise<void> {
  return new Promise((resolve) => {
    let asked = 0;
    const onSignal = (signal: NodeJS.Signals): void => {
      asked += 1;
      if (asked > 1) process.exit(signal === "SIGINT" ? 130 : 143);
      logger.info({ signal }, "draining; a second signal ends at once");
      resolve();
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
  });
}

async function greeting(options: ServerOptions, node: HoldfastNode, name: string): Promise<string> {
  const url = `http://${node.apiAddress.host}:${node.apiAddress.port}`;
  // As the checkout's launcher was called, so that the lines below can be copied as they are.
  const program = process.env["HOLDFAST_COMMAND"] ?? "holdfast";
  const lines = [`Node ${name} serves: API ${url}, agents on port ${node.agentPort}.`];
  if (node.firstToken !== undefined) {
    const key = (await readFile(join(options.dataDir, adminKeyFile), "utf8")).trim();
    if (key === "") throw new AppError("internal", "the admin key file is empty");
    lines.push(
      "",
      "A new cluster was created. On the machine that shall run scripts:",
      "",
      `  ${program} agent register --server ${url} --token ${node.firstToken} --all-nodes && ${program} agent run`,
      "",
      `The token works once, within an hour; \`${program} tokens create\` makes more. Then, from here:`,
      "",
      `  export HOLDFAST_URL=${url} HOLDFAST_API_KEY="$(cat ${shownPath(join(options.dataDir, adminKeyFile))})"`,
      `  ${program} agents list`,
      `  ${program} run --on '*' -- 'uname -a'`,
    );
  }
  return `${lines.join("\n")}\n`;
}

function shownPath(path: string): string {
  const near = relative(process.cwd(), path);
  return near.startsWith("..") ? path : near;
}

/** A name from the host's, with what a label may not hold replaced. */
function nameOfHost(): string {
  return (
    hostname()
      .replaceAll(/[^A-Za-z0-9._-]/g, "-")
      .replace(/^[^A-Za-z0-9]+/, "") || "node"
  );
}
