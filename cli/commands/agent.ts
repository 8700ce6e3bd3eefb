// `holdfast agent`: enrol this machine and run its agent. Hands options to agent/main.ts, loaded only then.
import type { Command } from "commander";
import { AppError } from "../../shared/errors.ts";
import type { LogLevel } from "../../shared/logger.ts";
import { command, group, type CommandContext } from "../command.ts";
import { durationOption, logLevelOption, option, parseCount } from "../option.ts";
import { stateDirectory } from "../state-directory.ts";
import { installCommand, statusCommand, uninstallCommand } from "./agent-service.ts";
import { doctorCommand } from "./doctor.ts";
import { updateCommand } from "./agent-update.ts";
import { agentDataDirectory, registerCommand } from "./register.ts";

/** What `runAgent` of agent/main.ts takes. */
export interface AgentOptions {
  readonly dataPath: string;
  /** Scripts that run at once. */
  readonly slots: number;
  /** How long the work folder of a failed attempt is kept. */
  readonly keepFailedMs: number;
  /** What restarts it when the cluster updates it. */
  readonly restartCommand: string | undefined;
  readonly logLevel: LogLevel;
}

interface RunAgentFlags extends Pick<AgentOptions, "slots" | "logLevel"> {
  readonly dataDir?: string;
  readonly keepFailed: number;
  readonly restartCommand?: string;
}

export function agentCommand(context: CommandContext): Command {
  return group("agent", {
    summary: "enrol this machine and run its agent",
    commands: [
      registerCommand(context),
      runAgentCommand(context),
      doctorCommand(context),
      installCommand(context),
      uninstallCommand(context),
      statusCommand(context),
      updateCommand(context),
    ],
    examples: [
      ["holdfast agent register --server URL --token T --all-nodes", "once"],
      ["holdfast agent install", "as a service from then on"],
      ["holdfast agent run", "or in the foreground"],
      ["holdfast agent doctor", "when it does not connect"],
    ],
  });
}

/** SECURITY section 5: parallel scripts per agent. */
const mostSlots = 64;

function runAgentCommand({ shell, finish }: CommandContext): Command {
  return command("run", {
    summary: "run the enrolled agent; TERM or INT drains, twice stops now and leaves scripts running",
    options: [
      agentDataDirectory(),
      option({
        flags: "--slots <count>",
        description: "scripts that run at once, 1 to 64",
        kind: "setting",
        parse: parseCount,
        fallback: { value: 10, shown: "10" },
      }),
      durationOption({
        flags: "--keep-failed <duration>",
        description: "how long the work folder of a failed script stays in kept/ of the data directory, such as 24h",
        kind: "setting",
        fallback: { value: 0, shown: "0" },
      }),
      option({
        flags: "--restart-command <line>",
        description:
          "shell command that restarts this agent when the cluster updates it (else its systemd service is, as root)",
        kind: "setting",
      }),
      logLevelOption(),
    ],
    examples: [["holdfast agent run --data-dir /var/lib/holdfast/agent", "in the foreground"]],
  }).action(async (flags: RunAgentFlags) => {
    const { slots, logLevel, keepFailed, restartCommand } = flags;
    if (slots > mostSlots) throw new AppError("config.invalid", `--slots: ${slots} is more than ${mostSlots}`);
    const dataPath = flags.dataDir ?? stateDirectory(shell, "agent");
    const options: AgentOptions = { dataPath, slots, keepFailedMs: keepFailed, restartCommand, logLevel };
    const { runAgent } = await import("../../agent/main.ts");
    finish(await runAgent(options));
  });
}
