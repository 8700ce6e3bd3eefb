// `holdfast agents`: the targets, how well each is connected, the end of their trust and their removal.
import type { Command } from "commander";
import type { AgentFilter } from "../../sdk/holdfast.ts";
import type { AgentView } from "../../shared/api/agents.ts";
import { AppError } from "../../shared/errors.ts";
import { openClient, type ClientOptions } from "../client.ts";
import { command, group, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { jsonOption, option, pageOptions, urlOptions } from "../option.ts";
import { pairs, printFields, printJson, printTable } from "../output.ts";
import { printMore } from "../page.ts";
import type { Shell } from "../shell.ts";
import { updateAgentsCommand } from "./agents-update.ts";
import { locksCommand, setAgentCommand } from "./agent-turns.ts";

interface JsonFlag extends ClientOptions {
  readonly json?: boolean;
}

export function agentsCommand(context: CommandContext): Command {
  return group("agents", {
    summary: "list, show, set, pause, revoke, remove and update agents",
    commands: [
      listCommand(context),
      showCommand(context),
      setAgentCommand(context),
      locksCommand(context),
      pauseCommand(context, "pause"),
      pauseCommand(context, "resume"),
      revokeCommand(context),
      removeCommand(context),
      updateAgentsCommand(context),
    ],
    examples: [
      ["holdfast agents list", "every agent and its connection"],
      ["holdfast agents show web-01", "one of them, node by node"],
    ],
  });
}

function listCommand({ shell, finish }: CommandContext): Command {
  return command("list", {
    summary: "list agents, newest first",
    options: [
      option({ flags: "--on <selector>", description: "only agents a selector means, such as role=web", kind: "act" }),
      ...pageOptions(),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [
      ["holdfast agents list --on 'role=web,!canary'", "by labels"],
      ["holdfast agents list --json", "for programs: {items, next}"],
    ],
  }).action(async ({ on, limit, cursor, ...flags }: JsonFlag & AgentFilter) => {
    const page = await (await openClient(shell, flags)).agents.list({ on, limit, cursor });
    if (flags.json === true) {
      await printJson(shell.out, page);
    } else {
      await printTable(shell.out, page.items, [
        { title: "NAME", cell: (agent) => agent.name },
        { title: "STATUS", cell: (agent) => (agent.paused ? `${agent.status}, paused` : agent.status) },
        { title: "CONNECTION", cell: (agent) => agent.connection },
        { title: "NODES", cell: connectedNodes },
        { title: "LABELS", cell: (agent) => pairs(agent.labels) },
        { title: "LAST SEEN", cell: (agent) => agent.lastSeenAt },
      ]);
      await printMore(shell, page);
    }
    finish(exitCodes.done);
  });
}

function showCommand({ shell, finish }: CommandContext): Command {
  return command("show <agent>", {
    summary: "show an agent, by name or id",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast agents show web-01", "labels, version, connection to each node"]],
  }).action(async (name: string, flags: JsonFlag) => {
    const agent = await (await openClient(shell, flags)).agents.show(name);
    if (flags.json === true) await printJson(shell.out, agent);
    else await printAgent(shell, agent);
    finish(exitCodes.done);
  });
}

function pauseCommand({ shell, finish }: CommandContext, verb: "pause" | "resume"): Command {
  return command(`${verb} <agent>`, {
    summary: verb === "pause" ? "offer an agent nothing more; what runs goes on" : "offer a paused agent work again",
    options: [jsonOption(), ...urlOptions()],
    examples: [[`holdfast agents ${verb} web-01`, verb === "pause" ? "before its maintenance" : "afterwards"]],
  }).action(async (name: string, flags: JsonFlag) => {
    const agent = await (await openClient(shell, flags)).agents[verb](name);
    if (flags.json === true) await printJson(shell.out, agent);
    else await shell.out.write(`${agent.name} ${agent.paused ? "is paused" : "takes work"}\n`);
    finish(exitCodes.done);
  });
}

function revokeCommand({ shell, finish }: CommandContext): Command {
  return command("revoke <agent>", {
    summary: "end an agent's trust: its sockets close on every node",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast agents revoke web-01", "it has to enrol again"]],
  }).action(async (name: string, flags: JsonFlag) => {
    const agent = await (await openClient(shell, flags)).agents.revoke(name);
    if (flags.json === true) await printJson(shell.out, agent);
    else await shell.out.write(`${agent.name} is ${agent.status}\n`);
    finish(exitCodes.done);
  });
}

function removeCommand({ shell, finish }: CommandContext): Command {
  return command("remove <agent>", {
    summary: "take an agent out of the cluster for good: its tasks end, its name is free again",
    options: [
      option({ flags: "--yes", description: "do it; without it nothing is removed", kind: "act" }),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [["holdfast agents remove web-01 --yes", "queued tasks are cancelled, running ones are lost"]],
  }).action(async (name: string, { yes, ...flags }: JsonFlag & { readonly yes?: boolean }) => {
    const client = await openClient(shell, flags);
    const found = await client.agents.show(name);
    if (yes !== true) {
      throw new AppError(
        "request.invalid",
        `removing agent ${found.name} (${found.status}, ${found.connection === "offline" ? "offline" : "connected"}) cannot be undone: its queued tasks are cancelled, and those it runs are lost and may still run`,
        { mend: "Run it again with --yes if you mean it; `holdfast agents revoke` only ends its trust." },
      );
    }
    // By id: what was looked at is what is removed, whoever has the name by then.
    const agent = await client.agents.remove(found.id);
    if (flags.json === true) await printJson(shell.out, agent);
    else await shell.out.write(`${agent.name} is ${agent.status}\n`);
    finish(exitCodes.done);
  });
}

function connectedNodes(agent: AgentView): string {
  return agent.nodes
    .filter((node) => node.state === "connected")
    .map((node) => node.name)
    .join(",");
}

async function printAgent(shell: Shell, agent: AgentView): Promise<void> {
  await printFields(shell.out, [
    ["id", agent.id],
    ["name", agent.name],
    ["status", agent.status],
    ["paused", agent.paused ? "yes" : "no"],
    ["slots", agent.slots === null ? "its own setting" : String(agent.slots)],
    ["connection", agent.connection],
    ["labels", pairs(agent.labels)],
    ["version", agent.version],
    ["executable", agent.host?.executable ?? null],
    ["host", agent.host === null ? null : `${agent.host.hostname} (${agent.host.os}/${agent.host.arch})`],
    ["created", agent.createdAt],
    ["last seen", agent.lastSeenAt],
  ]);
  await shell.out.write("\n");
  await printTable(shell.out, agent.nodes, [
    { title: "NODE", cell: (node) => node.name },
    { title: "STATE", cell: (node) => node.state },
    { title: "SINCE", cell: (node) => node.since },
    { title: "ROUND TRIP", cell: (node) => (node.roundTripMs === null ? null : `${node.roundTripMs.toFixed(1)}ms`) },
    {
      title: "LAST REFUSAL",
      cell: (node) =>
        node.refusal === null
          ? null
          : `${node.refusal.reason}${node.refusal.at === null ? "" : ` (${node.refusal.at})`}`,
    },
  ]);
}
