// What every tree of commands has in common, whichever commands it holds: version, forms of help and errors, words.
import type { Command } from "commander";
import { command, type CommandContext, type CommandForm } from "./command.ts";
import { versionText } from "./version.ts";

export interface Tree extends Pick<CommandForm, "summary" | "examples"> {
  readonly commands: readonly ((context: CommandContext) => Command)[];
}

/** Makes the program; the context says where it writes and leaves its exit code. */
export type CreateProgram = (context: CommandContext) => Command;

export function plantTree(context: CommandContext, { summary, examples, commands }: Tree): Command {
  const program = command("holdfast", { summary, examples });
  program.version(versionText(), "-V, --version", "show version, commit, protocol and Node");
  for (const inner of commands) program.addCommand(inner(context));
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
