// `holdfast server start`: reads the options of a node and hands them to server/main.ts, which is loaded only then, so that
// client commands start fast.
import type { Command } from "commander";
import type { ServerOptions } from "../../server/main.ts";
import type { LogLevel } from "../../shared/logger.ts";
import { command, group, type CommandContext } from "../command.ts";
import { parseHostPort, type HostPort } from "../host-port.ts";
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
  readonly logLevel: LogLevel;
}

export function serverCommand(context: CommandContext): Command {
  return group("server", {
    summary: "run a server node",
    commands: [startCommand(context)],
    examples: [["holdfast server start --data-dir ./data", "a cluster of one node, with its own database"]],
  });
}

function startCommand({ shell, finish }: CommandContext): Command {
  return command("start", {
    summary: "start a node; in an empty data directory it creates the cluster first",
    options: [
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
      logLevelOption(),
    ],
    examples: [
      ["holdfast server start --data-dir ./data", "first start creates the cluster"],
      [
        "holdfast server start --data-dir ./b --database-url file://data/database-url --master-key-file data/master.key --api-listen 127.0.0.1:8081 --agent-listen 0.0.0.0:10944",
        "a second node here",
      ],
    ],
  }).action(async (flags: StartFlags) => {
    const { runServer } = await import("../../server/main.ts");
    const options: ServerOptions = {
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
      logLevel: flags.logLevel,
    };
    finish(await runServer(options));
  });
}

function split(texts: readonly string[] | undefined): string[] {
  return (texts ?? []).flatMap((text) => text.split(",")).map((text) => text.trim());
}
