// The tree of all commands. The reference in docs/configuration.md is rendered from it and held equal by a test.
import type { Command } from "commander";
import { command, type CommandContext } from "./command.ts";
import { agentCommand } from "./commands/agent.ts";
import { agentsCommand } from "./commands/agents.ts";
import { clusterCommand } from "./commands/cluster.ts";
import { loginCommand } from "./commands/login.ts";
import { nodesCommand } from "./commands/nodes.ts";
import { runCommand } from "./commands/run.ts";
import { serverCommand } from "./commands/server.ts";
import { tasksCommand } from "./commands/tasks.ts";
import { tokensCommand } from "./commands/tokens.ts";
import { versionText } from "./version.ts";

export function createProgram(context: CommandContext): Command {
  const program = command("holdfast", {
    summary:
      "Run scripts on machines behind NAT and firewalls, with live logs, and results that survive any process dying.",
    examples: [
      ["holdfast server start --data-dir ./data", "a server"],
      ["holdfast tokens create", "let an agent in"],
      ["holdfast agent register --server URL --token T --all-nodes", "on the target"],
      ["holdfast run --on web-01 -- uname -a", "run something there"],
    ],
  });
  program.version(versionText(), "-V, --version", "show version, commit, protocol and Node");
  for (const inner of [
    runCommand,
    tasksCommand,
    agentsCommand,
    nodesCommand,
    clusterCommand,
    tokensCommand,
    loginCommand,
    serverCommand,
    agentCommand,
  ]) {
    program.addCommand(inner(context));
  }
  for (const one of everyCommand(program)) prepare(one, context);
  return program;
}

export function everyCommand(program: Command): Command[] {
  return [program, ...program.commands.flatMap((inner) => everyCommand(inner))];
}

/** Full words of a command: `holdfast tasks list`. */
export function wordsOf(one: Command): string {
  return one.parent === null ? one.name() : `${wordsOf(one.parent)} ${one.name()}`;
}

function prepare(one: Command, { shell }: CommandContext): void {
  one.exitOverride();
  one.showHelpAfterError(`  See \`${wordsOf(one)} --help\`.`);
  one.configureOutput({
    writeOut: (text) => void shell.out.write(text),
    writeErr: (text) => void shell.err.write(text),
    outputError: (text, write) => write(text.replace(/^error: /, "holdfast: ")),
    getOutHasColors: () => false,
    getErrHasColors: () => false,
  });
}
