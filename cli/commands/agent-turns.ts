// What runs beside what on an agent: how many scripts at once, and who holds and waits for its isolation locks.
import type { Command } from "commander";
import { largestSlots } from "../../shared/api/agents.ts";
import { AppError } from "../../shared/errors.ts";
import { openClient, type ClientOptions } from "../client.ts";
import { command, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { jsonOption, option, urlOptions } from "../option.ts";
import { printJson, printTable } from "../output.ts";
import { safeLine } from "../terminal-safe.ts";

interface JsonFlag extends ClientOptions {
  readonly json?: boolean;
}

/** Null is the agent's own setting. */
type Slots = number | null;

export function setAgentCommand({ shell, finish }: CommandContext): Command {
  return command("set <agent>", {
    summary: "set how many scripts an agent runs at once; it holds at once, and what runs goes on",
    options: [
      option({
        flags: "--slots <count>",
        description: `0 to ${largestSlots}, 0 takes nothing new; own: as the agent was started`,
        kind: "act",
        parse: parseSlots,
      }),
      jsonOption(),
      ...urlOptions(),
    ],
    examples: [
      ["holdfast agents set web-01 --slots 2", "two scripts at once"],
      ["holdfast agents set web-01 --slots own", "as it was started"],
    ],
  }).action(async (name: string, { slots, ...flags }: JsonFlag & { readonly slots?: Slots }) => {
    if (slots === undefined)
      throw new AppError("config.invalid", "it is not said what to set", { mend: "Give --slots." });
    const agent = await (await openClient(shell, flags)).agents.set(name, { slots });
    if (flags.json === true) await printJson(shell.out, agent);
    else await shell.out.write(`${safeLine(agent.name)} ${said(agent.slots)}\n`);
    finish(exitCodes.done);
  });
}

export function locksCommand({ shell, finish }: CommandContext): Command {
  return command("locks <agent>", {
    summary: "show who holds an agent's isolation locks, since when, and who waits",
    options: [jsonOption(), ...urlOptions()],
    examples: [["holdfast agents locks web-01", "holders first, then those who wait in their order"]],
  }).action(async (name: string, flags: JsonFlag) => {
    const { agent, locks } = await (await openClient(shell, flags)).agents.locks(name);
    if (flags.json === true) await printJson(shell.out, { agent, locks });
    else {
      const rows = locks.flatMap(({ name: lock, holders, waiting }) => [
        ...holders.map((claim) => ({ ...claim, lock, role: "holds" })),
        ...waiting.map((claim) => ({ ...claim, lock, role: "waits" })),
      ]);
      await printTable(shell.out, rows, [
        { title: "LOCK", cell: ({ lock }) => lock },
        { title: "ROLE", cell: ({ role }) => role },
        { title: "MODE", cell: ({ mode }) => mode },
        { title: "TASK", cell: ({ task }) => task },
        { title: "SINCE", cell: ({ since }) => since },
        { title: "AGE", cell: ({ ageMs }) => `${(ageMs / 1_000).toFixed(1)}s` },
      ]);
    }
    finish(exitCodes.done);
  });
}

function said(slots: Slots): string {
  if (slots === null) return "runs as many scripts at once as it was started with";
  return slots === 0 ? "takes nothing new" : `runs at most ${slots} at once`;
}

function parseSlots(text: string): Slots {
  if (text === "own") return null;
  const slots = /^\d{1,4}$/.test(text) ? Number(text) : NaN;
  if (!(slots <= largestSlots))
    throw new AppError("config.invalid", `"${text}" is neither a number from 0 to ${largestSlots} nor own`);
  return slots;
}
