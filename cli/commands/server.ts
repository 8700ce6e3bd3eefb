// `holdfast server start`: reads the options of a node and hands them to server/main.ts, which is loaded only then, so that
// client commands start fast.
import type { Command, Option } from "commander";
import type { ServerOptions } from "../../server/main.ts";
import { AppError } from "../../shared/errors.ts";
import type { LogLevel } from "../../shared/logger.ts";
import { command, group, type CommandContext } from "../command.ts";
import { parseHostPort, type HostPort } from "../host-port.ts";
import { drainCommand } from "./drain.ts";
import { removeNodeCommand, resumeCommand, setCommand } from "./node-acts.ts";
import { countOption, listenOption, logLevelOption, option } from "../option.ts";
import { resolveSecret } from "../secret.ts";
import { stateDirectory } from "../state-directory.ts";

interface StartFlags {
  readonly dataDir?: string;
  readonly name?: string;
  readonly apiListen: HostPort;
  readonly agentListen: HostPort;
  readonly advertise?: readonly string[];
  readonly databaseUrl?: string;
  readonly masterKeyFile?: string;
  readonly trustedProxies?: readonly string[];
  readonly allowOrigin?: readonly string[];
  readonly queuePerAgent: number;
  readonly queueTotal: number;
  readonly agentExecutables?: string;
  readonly logLevel: LogLevel;
}

export function serverCommand(context: CommandContext): Command {
  return group("server", {
    summary: "run a server node; drain, resume, set and remove nodes",
    commands: [
      startCommand(context),
      joinCommand(context),
      drainCommand(context),
      resumeCommand(context),
      setCommand(context),
      removeNodeCommand(context),
    ],
    examples: [
      ["holdfast server start --data-dir ./data", "a cluster of one node, with its own database"],
      ["holdfast server drain node-b", "before its maintenance"],
    ],
  });
}

function startCommand(context: CommandContext): Command {
  return command("start", {
    summary: "start a node; in an empty data directory it creates the cluster first",
    options: nodeOptions(),
    examples: [
      ["holdfast server start --data-dir ./data", "first start creates the cluster"],
      [
        "holdfast server start --data-dir ./b --database-url file://data/database-url --master-key-file data/master.key --api-listen 127.0.0.1:8081 --agent-listen 0.0.0.0:10944",
        "a second node here",
      ],
    ],
  }).action((flags: StartFlags) => runNode(context, { flags, intent: "start" }));
}

function joinCommand(context: CommandContext): Command {
  return command("join", {
    summary: "start a node of a cluster that is there; one that was removed comes back as a new node",
    options: nodeOptions(),
    examples: [
      [
        "holdfast server join --data-dir ./b --database-url file://database-url --master-key-file master.key",
        "version, clock, database and master key are checked first",
      ],
    ],
  }).action((flags: StartFlags) => runNode(context, { flags, intent: "join" }));
}

async function runNode(
  { shell, finish }: CommandContext,
  { flags, intent }: { readonly flags: StartFlags; readonly intent: "start" | "join" },
): Promise<void> {
  if (intent === "join" && flags.databaseUrl === undefined) {
    throw new AppError("config.invalid", "join needs --database-url: the database that the cluster's nodes share");
  }
  const { runServer } = await import("../../server/main.ts");
  const options: ServerOptions = {
    intent,
    dataDir: flags.dataDir ?? stateDirectory(shell, "server"),
    name: flags.name,
    apiListen: flags.apiListen,
    agentListen: flags.agentListen,
    advertise: split(flags.advertise).map(parseHostPort),
    databaseUrl: flags.databaseUrl === undefined ? undefined : await resolveSecret(shell, flags.databaseUrl),
    masterKeyFile: flags.masterKeyFile,
    trustedProxies: split(flags.trustedProxies),
    allowOrigins: split(flags.allowOrigin),
    queuePerAgent: flags.queuePerAgent,
    queueTotal: flags.queueTotal,
    agentExecutables: flags.agentExecutables,
    logLevel: flags.logLevel,
  };
  finish(await runServer(options));
}

function nodeOptions(): Option[] {
  return [
    option({
      flags: "--data-dir <dir>",
      description: "state of this node (else /var/lib/holdfast/server for root, or the XDG state folder)",
      kind: "setting",
    }),
    option({ flags: "--name <name>", description: "label of this node (else the host's name)", kind: "setting" }),
    listenOption({ flags: "--api-listen <host:port>", description: "HTTP API", value: "127.0.0.1:8080" }),
    listenOption({ flags: "--agent-listen <host:port>", description: "agents' mutual TLS", value: "0.0.0.0:10943" }),
    option({
      flags: "--advertise <host:port...>",
      description: "addresses agents dial (repeatable; else derived from --agent-listen)",
      kind: "setting",
      repeatable: "repeatable",
    }),
    option({
      flags: "--database-url <url>",
      description: "any PostgreSQL from 15, or file://PATH (else an embedded one)",
      kind: "setting",
    }),
    option({
      flags: "--master-key-file <file>",
      description: "the cluster's master key (else master.key in the data directory)",
      kind: "setting",
    }),
    option({
      flags: "--trusted-proxies <range...>",
      description: "load balancers whose X-Forwarded-For is believed (repeatable)",
      kind: "setting",
      repeatable: "repeatable",
    }),
    option({
      flags: "--allow-origin <origin...>",
      description: "origins whose pages may call the API from a browser (repeatable)",
      kind: "setting",
      repeatable: "repeatable",
    }),
    countOption({
      flags: "--queue-per-agent <count>",
      description: "queued tasks of one agent; more are refused with 429 (the same on every node)",
      fallback: 1_000,
    }),
    countOption({
      flags: "--queue-total <count>",
      description: "queued tasks in the cluster; more are refused with 429 (the same on every node)",
      fallback: 1_000_000,
    }),
    option({
      flags: "--agent-executables <dir>",
      description:
        "executables of the agent to serve (else agent-executables in the data directory, else those of `npm run build:agent`)",
      kind: "setting",
    }),
    logLevelOption(),
  ];
}

function split(texts: readonly string[] | undefined): string[] {
  return (texts ?? []).flatMap((text) => text.split(",")).map((text) => text.trim());
}
