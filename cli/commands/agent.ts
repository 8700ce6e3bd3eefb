// `holdfast agent`: enrol this machine and run its agent. Hands options to agent/main.ts, loaded only then.
import type { Command } from "commander";
import { AppError } from "../../shared/errors.ts";
import type { LogLevel } from "../../shared/logger.ts";
import type { Labels } from "../../shared/task.ts";
import { command, group, type CommandContext } from "../command.ts";
import { logLevelOption, option } from "../option.ts";
import { parseLabels } from "../pairs.ts";
import { resolveSecret } from "../secret.ts";
import { stateDirectory } from "../state-directory.ts";

/** What `registerAgent` of agent/main.ts takes. */
export interface RegisterOptions {
  readonly dataDir: string;
  /** API addresses of the cluster, tried in order. */
  readonly servers: readonly string[];
  readonly token: string;
  /** The host's name when absent. */
  readonly name: string | undefined;
  readonly labels: Labels;
  /** `all`: succeed only when every node of the cluster greets this agent (else exit code 69). */
  readonly nodes: "all" | "any";
  readonly logLevel: LogLevel;
}

/** What `runAgent` of agent/main.ts takes. */
export interface AgentOptions {
  readonly dataDir: string;
  readonly logLevel: LogLevel;
}

interface RegisterFlags {
  readonly server?: readonly string[];
  readonly token?: string;
  readonly allNodes?: boolean;
  readonly name?: string;
  readonly label?: readonly string[];
  readonly dataDir?: string;
  readonly logLevel: LogLevel;
}

export function agentCommand(context: CommandContext): Command {
  return group("agent", {
    summary: "enrol this machine and run its agent",
    commands: [registerCommand(context), runAgentCommand(context)],
    examples: [
      ["holdfast agent register --server URL --token T --all-nodes", "once"],
      ["holdfast agent run", "from then on"],
    ],
  });
}

const dataDirectory = () =>
  option({
    flags: "--data-dir <dir>",
    description: "identity and journal (else /var/lib/holdfast/agent for root, or the XDG state folder)",
    kind: "setting",
  });

function registerCommand({ shell, finish }: CommandContext): Command {
  return command("register", {
    summary: "enrol this machine with a token from `holdfast tokens create`",
    options: [
      option({
        flags: "--server <url>",
        description: "API address of the cluster (repeatable)",
        kind: "setting",
        repeatable: "repeatable",
      }),
      option({
        flags: "--token <token>",
        description: "enrolment token, or file://PATH, env://NAME, fd://N",
        kind: "setting",
      }),
      option({
        flags: "--all-nodes",
        description: "succeed only when every node has greeted this agent",
        kind: "setting",
      }),
      option({ flags: "--name <name>", description: "name of this agent (else the host's name)", kind: "setting" }),
      option({
        flags: "--label <k=v...>",
        description: "labels (repeatable)",
        kind: "setting",
        repeatable: "repeatable",
      }),
      dataDirectory(),
      logLevelOption(),
    ],
    examples: [
      [
        "holdfast agent register --server http://holdfast:8080 --token T --all-nodes --name web-01 --label role=web",
        "as web-01",
      ],
      [
        "holdfast agent register --server http://holdfast:8080 --token file://token",
        "token not in the process listing",
      ],
    ],
  }).action(async (flags: RegisterFlags) => {
    const servers = (flags.server ?? []).flatMap((text) => text.split(",")).map((text) => text.trim());
    if (servers.length === 0 || flags.token === undefined) {
      throw new AppError("config.invalid", "register needs --server and --token", {
        mend: "Take the server's API address and a token from `holdfast tokens create`.",
      });
    }
    const options: RegisterOptions = {
      dataDir: flags.dataDir ?? stateDirectory(shell, "agent"),
      servers,
      token: await resolveSecret(shell, flags.token),
      name: flags.name,
      labels: parseLabels(flags.label ?? []),
      nodes: flags.allNodes === true ? "all" : "any",
      logLevel: flags.logLevel,
    };
    const { registerAgent } = await import("../../agent/main.ts");
    finish(await registerAgent(options));
  });
}

function runAgentCommand({ shell, finish }: CommandContext): Command {
  return command("run", {
    summary: "run the enrolled agent; TERM or INT drains, twice stops now and leaves scripts running",
    options: [dataDirectory(), logLevelOption()],
    examples: [["holdfast agent run --data-dir /var/lib/holdfast/agent", "in the foreground"]],
  }).action(async (flags: { readonly dataDir?: string; readonly logLevel: LogLevel }) => {
    const options: AgentOptions = {
      dataDir: flags.dataDir ?? stateDirectory(shell, "agent"),
      logLevel: flags.logLevel,
    };
    const { runAgent } = await import("../../agent/main.ts");
    finish(await runAgent(options));
  });
}
