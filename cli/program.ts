// The tree of all commands. The reference in docs/configuration.md is rendered from it and held equal by a test.
import type { Command } from "commander";
import type { CommandContext } from "./command.ts";
import { agentCommand } from "./commands/agent.ts";
import { agentsCommand } from "./commands/agents.ts";
import { clusterCommand } from "./commands/cluster.ts";
import { loginCommand } from "./commands/login.ts";
import { nodesCommand } from "./commands/nodes.ts";
import { runCommand } from "./commands/run.ts";
import { serverCommand } from "./commands/server.ts";
import { tasksCommand } from "./commands/tasks.ts";
import { tokensCommand } from "./commands/tokens.ts";
import { plantTree } from "./tree.ts";

export function createProgram(context: CommandContext): Command {
  return plantTree(context, {
    summary:
      "Run scripts on machines behind NAT and firewalls, with live logs, and results that survive any process dying.",
    examples: [
      ["holdfast server start --data-dir ./data", "a server"],
      ["holdfast tokens create", "let an agent in"],
      ["holdfast agent register --server URL --token T --all-nodes", "on the target"],
      ["holdfast run --on web-01 -- uname -a", "run something there"],
    ],
    commands: [
      runCommand,
      tasksCommand,
      agentsCommand,
      nodesCommand,
      clusterCommand,
      tokensCommand,
      loginCommand,
      serverCommand,
      agentCommand,
    ],
  });
}
