// `holdfast nodes`: the servers of the cluster.
import type { Command } from "commander";
import type { NodeView } from "../../shared/api/nodes.ts";
import type { PageRequest } from "../../shared/api/page.ts";
import { openClient, type ClientOptions } from "../client.ts";
import { command, group, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { jsonOption, pageOptions, urlOptions } from "../option.ts";
import { printJson, printTable } from "../output.ts";
import { printMore } from "../page.ts";

export function nodesCommand(context: CommandContext): Command {
  return group("nodes", {
    summary: "list the cluster's server nodes",
    commands: [listCommand(context)],
    examples: [["holdfast nodes list", "which live, which drain"]],
  });
}

function listCommand({ shell, finish }: CommandContext): Command {
  return command("list", {
    summary: "list server nodes, newest first",
    options: [...pageOptions(), jsonOption(), ...urlOptions()],
    examples: [["holdfast nodes list --json", "for programs: {items, next}"]],
  }).action(async ({ limit, cursor, ...flags }: ClientOptions & PageRequest & { readonly json?: boolean }) => {
    const page = await (await openClient(shell, flags)).nodes.list({ limit, cursor });
    if (flags.json === true) {
      await printJson(shell.out, page);
    } else {
      await printTable(shell.out, page.items, [
        { title: "NAME", cell: (node) => node.name },
        { title: "STATE", cell: stateOf },
        { title: "TASKS", cell: (node) => `${node.active} of ${node.taskCap}` },
        { title: "SESSIONS", cell: (node) => node.sessions },
        { title: "ADDRESSES", cell: (node) => node.addresses.join(",") },
        { title: "VERSION", cell: (node) => node.version },
        { title: "HEARTBEAT", cell: (node) => node.heartbeatAt },
        { title: "ID", cell: (node) => node.id },
      ]);
      await printMore(shell, page);
    }
    finish(exitCodes.done);
  });
}

function stateOf({ state, draining, drain }: NodeView): string {
  if (state === "removed" || !draining) return state;
  return `${state}, ${drain === "finish" ? "finishing" : "draining"}`;
}
