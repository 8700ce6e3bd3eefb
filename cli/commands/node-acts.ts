// What people set for a server node beside its drain: back to work, its task cap, its removal for good.
import type { Command } from "commander";
import type { Holdfast } from "../../sdk/holdfast.ts";
import { largestTaskCap, type NodeView } from "../../shared/api/nodes.ts";
import { AppError } from "../../shared/errors.ts";
import { openClient, type ClientOptions } from "../client.ts";
import { command, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { jsonOption, option, urlOptions } from "../option.ts";
import { counted, printJson } from "../output.ts";
import type { Shell } from "../shell.ts";
import { safeLine } from "../terminal-safe.ts";

interface JsonFlag extends ClientOptions {
  readonly json?: boolean;
}

export function resumeCommand({ shell, finish }: CommandContext): Command {
  return command("resume <node>", {
    summary: "lift a node's drain: it takes work and agents again",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast server resume node-b", "after its maintenance"]],
  }).action(async (name: string, flags: JsonFlag) => {
    await act(shell, flags, async (client) => {
      const node = await client.nodes.resume(name);
      return { node, said: `${safeLine(node.name)} takes work again` };
    });
    finish(exitCodes.done);
  });
}

export function setCommand({ shell, finish }: CommandContext): Command {
  return command("set <node>", {
    summary: "set a node's task cap; it holds at once",
    options: [
      option({
        flags: "--task-cap <count>",
        description: "most tasks at once; 0 serves users only",
        kind: "act",
        parse: parseCap,
      }),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [["holdfast server set node-b --task-cap 200", "a smaller machine"]],
  }).action(async (name: string, { taskCap, ...flags }: JsonFlag & { readonly taskCap?: number }) => {
    if (taskCap === undefined)
      throw new AppError("config.invalid", "it is not said what to set", { mend: "Give --task-cap." });
    await act(shell, flags, async (client) => {
      const node = await client.nodes.set(name, { taskCap });
      return { node, said: `${safeLine(node.name)} takes at most ${node.taskCap} tasks at once` };
    });
    finish(exitCodes.done);
  });
}

export function removeNodeCommand({ shell, finish }: CommandContext): Command {
  return command("remove <node>", {
    summary: "take a node out of the cluster for good: agents drop it, and it does not come back",
    options: [
      option({ flags: "--yes", description: "do it; without it nothing is removed", kind: "act" }),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [["holdfast server remove node-b --yes", "after it was drained and stopped"]],
  }).action(async (name: string, { yes, ...flags }: JsonFlag & { readonly yes?: boolean }) => {
    await act(shell, flags, async (client) => {
      const found = await client.nodes.show(name);
      if (yes !== true) {
        throw new AppError(
          "request.invalid",
          `removing node ${found.name} (${found.state}, ${counted(found.sessions, "agent")} connected) cannot be undone: it has to join again as a new node`,
          { mend: "Run it again with --yes if you mean it; `holdfast server drain` only empties it." },
        );
      }
      const node = await client.nodes.remove(found.id);
      return { node, said: `${safeLine(node.name)} is removed` };
    });
    finish(exitCodes.done);
  });
}

async function act(
  shell: Shell,
  flags: JsonFlag,
  what: (client: Holdfast) => Promise<{ readonly node: NodeView; readonly said: string }>,
): Promise<void> {
  const { node, said } = await what(await openClient(shell, flags));
  if (flags.json === true) await printJson(shell.out, node);
  else await shell.out.write(`${said}\n`);
}

function parseCap(text: string): number {
  const cap = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
  if (!(cap <= largestTaskCap))
    throw new AppError("config.invalid", `"${text}" is not a number from 0 to ${largestTaskCap}`);
  return cap;
}
