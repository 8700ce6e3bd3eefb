// The frame of every command: its words, options and examples, and how its exit code comes out.
import { Command, type Option } from "commander";
import type { Shell } from "./shell.ts";

export interface CommandContext {
  readonly shell: Shell;
  /** Where an action leaves its exit code. */
  readonly finish: (exitCode: number) => void;
}

export interface CommandForm {
  readonly summary: string;
  readonly options?: readonly Option[];
  /** Full command lines, each with what it does. */
  readonly examples: readonly (readonly [line: string, meaning: string])[];
}

/** `words` as commander takes them: `show <id>`. */
export function command(words: string, form: CommandForm): Command {
  const made = new Command(words.split(" ", 1)[0]);
  const parameters = words.split(" ").slice(1);
  for (const parameter of parameters) made.argument(parameter);
  made.description(form.summary).helpOption("-h, --help", "show this help").helpCommand(false);
  for (const one of form.options ?? []) made.addOption(one);
  const lines = form.examples.map(([line, meaning]) => `  # ${meaning}\n  ${line}`);
  return made.addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
}

/** A command that only holds others: alone it shows its help and is wrong usage. */
export function group(words: string, form: CommandForm & { readonly commands: readonly Command[] }): Command {
  const made = command(words, form);
  for (const inner of form.commands) made.addCommand(inner);
  return made;
}
