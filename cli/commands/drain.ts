// `holdfast server drain`: asks a node to give its agents away and watches until it holds nothing, or says what it still holds.
// Invariant: "drained" is said only of a node that lives: one cut off from the database is not heard, and may hold all it had.
import type { Command } from "commander";
import type { Holdfast } from "../../sdk/holdfast.ts";
import type { NodeRemains, NodeView } from "../../shared/api/nodes.ts";
import { pageLimits } from "../../shared/api/page.ts";
import { systemClock } from "../../shared/clock.ts";
import { openClient, type ClientOptions } from "../client.ts";
import { command, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { durationOption, jsonOption, option, urlOptions } from "../option.ts";
import { counted, note, printJson, printTable } from "../output.ts";
import type { Shell } from "../shell.ts";
import { safeLine } from "../terminal-safe.ts";

const defaultWait = { value: 900_000, shown: "15m" } as const;
const lookMs = 500;

interface DrainFlags extends ClientOptions {
  readonly wait: number;
  readonly finish?: boolean;
  readonly json?: boolean;
}

export function drainCommand({ shell, finish }: CommandContext): Command {
  return command("drain <node>", {
    summary: "have a node take nothing new and give its agents to the others; kept over restarts until resumed",
    options: [
      durationOption({
        flags: "--wait <duration>",
        description: "how long to watch until the node holds nothing; 0s returns at once",
        kind: "act",
        fallback: defaultWait,
      }),
      option({
        flags: "--finish",
        description: "keep the tasks that flow through it until they are done",
        kind: "act",
      }),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [
      ["holdfast server drain node-b && systemctl stop holdfast-server", "nobody notices"],
      ["holdfast server drain node-b --finish --wait 1h", "after what it carries is done"],
    ],
  }).action(async (name: string, flags: DrainFlags) => finish(await drain(shell, { name, flags })));
}

async function drain(shell: Shell, { name, flags }: { name: string; flags: DrainFlags }): Promise<number> {
  const client = await openClient(shell, flags);
  const asked = await client.nodes.show(name);
  const node = await client.nodes.drain(asked.id, { finish: flags.finish === true });
  if (!(await hasOtherTaker(client, node)))
    await note(shell, `no other node takes tasks: what is queued waits until one does or ${node.name} is resumed`);
  const remains = await untilEmpty(client, { node, shell, waitMs: flags.wait });
  const now = await client.nodes.show(node.id);
  const isUnheard = now.state === "dead";
  if (flags.json === true) await printJson(shell.out, { node: now, ...remains });
  else if (isUnheard) await shell.out.write(unheardWords(now));
  else if (remains.empty) await shell.out.write(`${safeLine(node.name)} is drained: it holds nothing\n`);
  else await printRemains(shell, { node, remains });
  return (remains.empty && !isUnheard) || flags.wait === 0 ? exitCodes.done : exitCodes.unreachable;
}

/** Whether a live node besides this one takes tasks. */
async function hasOtherTaker(client: Holdfast, { id }: NodeView): Promise<boolean> {
  let cursor: string | undefined;
  do {
    const page = await client.nodes.list({ limit: pageLimits.most, cursor });
    if (page.items.some((one) => one.id !== id && one.state === "live" && !one.draining && one.taskCap > 0))
      return true;
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
  return false;
}

function unheardWords({ name, heartbeatAt }: NodeView): string {
  return `${safeLine(name)} has not been heard since ${heartbeatAt ?? "it joined"}: what it holds is not known. It drains when it is heard again; if it runs cut off from the database, its agents move once it is stopped\n`;
}

interface Watch {
  readonly node: NodeView;
  readonly shell: Shell;
  readonly waitMs: number;
}

const flowing = ({ active }: NodeRemains): string => `${counted(active, "task")} ${active === 1 ? "flows" : "flow"}`;

async function untilEmpty(client: Holdfast, { node, shell, waitMs }: Watch): Promise<NodeRemains> {
  const untilMs = systemClock.monotonicMs() + waitMs;
  let told = "";
  for (;;) {
    const remains = await client.nodes.remains(node.id);
    const left = `${counted(remains.sessions, "agent")} connected, ${flowing(remains)} through it`;
    if (remains.empty || systemClock.monotonicMs() >= untilMs) return remains;
    if (left !== told) await note(shell, `${safeLine(node.name)} drains: ${left}`);
    told = left;
    await systemClock.sleep(lookMs);
  }
}

async function printRemains(
  shell: Shell,
  { node, remains }: { readonly node: NodeView; readonly remains: NodeRemains },
): Promise<void> {
  await shell.out.write(
    `${safeLine(node.name)} still holds ${counted(remains.sessions, "agent")} and ${counted(remains.active, "task")}:\n`,
  );
  const agents = remains.agents.map((agent) => ({ agent, task: "" }));
  const tasks = remains.tasks.map(({ id, agent }) => ({ agent, task: id }));
  await printTable(
    shell.out,
    [...agents.filter(({ agent }) => !tasks.some((task) => task.agent === agent)), ...tasks],
    [
      { title: "AGENT", cell: (row) => row.agent },
      { title: "TASK", cell: (row) => row.task },
    ],
  );
}
