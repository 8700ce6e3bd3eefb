// `holdfast cluster`: the pause of all claims, on every node.
import type { Command } from "commander";
import type { ClusterView } from "../../shared/api/nodes.ts";
import { openClient, type ClientOptions } from "../client.ts";
import { command, group, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { jsonOption, urlOptions } from "../option.ts";
import { printFields, printJson } from "../output.ts";
import { safeLine } from "../terminal-safe.ts";
import type { Shell } from "../shell.ts";

interface JsonFlag extends ClientOptions {
  readonly json?: boolean;
}

export function clusterCommand(context: CommandContext): Command {
  return group("cluster", {
    summary: "show, pause and resume the cluster",
    commands: [showCommand(context), turnCommand(context, "pause"), turnCommand(context, "resume")],
    examples: [["holdfast cluster pause", "nothing starts any more; what runs goes on"]],
  });
}

function showCommand({ shell, finish }: CommandContext): Command {
  return command("show", {
    summary: "show the cluster's id and whether it is paused",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast cluster show", "is it paused?"]],
  }).action(async (flags: JsonFlag) => {
    const cluster = await (await openClient(shell, flags)).cluster.show();
    if (flags.json === true) await printJson(shell.out, cluster);
    else {
      await printFields(shell.out, [
        ["id", cluster.id],
        ["name", cluster.name],
        ["paused", cluster.paused ? "yes" : "no"],
        ["nodes behind", cluster.behind.length === 0 ? null : cluster.behind.join(", ")],
      ]);
    }
    finish(exitCodes.done);
  });
}

function turnCommand({ shell, finish }: CommandContext, verb: "pause" | "resume"): Command {
  return command(verb, {
    summary:
      verb === "pause"
        ? "no node claims anything more; returns when every live node has it"
        : "nodes claim again; returns when every live node has it",
    options: [jsonOption(), ...urlOptions()],
    examples: [[`holdfast cluster ${verb}`, verb === "pause" ? "before a change that concerns all" : "afterwards"]],
  }).action(async (flags: JsonFlag) => {
    const cluster = await (await openClient(shell, flags)).cluster[verb]();
    if (flags.json === true) await printJson(shell.out, cluster);
    else await say(shell, { cluster, verb });
    const isDone = cluster.behind.length === 0 && cluster.paused === (verb === "pause");
    finish(isDone ? exitCodes.done : exitCodes.unreachable);
  });
}

async function say(
  shell: Shell,
  { cluster, verb }: { readonly cluster: ClusterView; readonly verb: "pause" | "resume" },
): Promise<void> {
  if (cluster.paused !== (verb === "pause")) {
    const [done, undone] = verb === "pause" ? ["paused", "resumed"] : ["resumed", "paused"];
    await shell.out.write(`the cluster was ${done}, and ${undone} by somebody else meanwhile\n`);
    return;
  }
  await shell.out.write(`the cluster is ${verb === "pause" ? "paused" : "resumed"}\n`);
  if (cluster.behind.length > 0)
    await shell.out.write(`not heard yet by: ${cluster.behind.map((name) => safeLine(name)).join(", ")}\n`);
}
