// One run of a tree of commands: parse, act, and turn whatever happened into an exit code (CONVENTIONS). Does not exit itself.
import { CommanderError, type Command } from "commander";
import { AppError } from "../shared/errors.ts";
import { exitCodeOfError, exitCodes } from "./exit-code.ts";
import { printError } from "./output.ts";
import type { Shell } from "./shell.ts";
import { everyCommand, type CreateProgram } from "./tree.ts";

/** `words` without the executable's own: `["tasks", "list"]`. */
export async function runWords(words: readonly string[], shell: Shell, createProgram: CreateProgram): Promise<number> {
  let exitCode: number = exitCodes.done;
  const program = createProgram({ shell, finish: (code) => (exitCode = code) });
  dropUnset(program, process.env);
  try {
    await program.parseAsync([...words], { from: "user" });
    return exitCode;
  } catch (cause) {
    if (cause instanceof CommanderError) return cause.exitCode === 0 ? exitCodes.done : exitCodes.usage;
    const error = AppError.from(cause);
    await printError(shell, error, errorForm(program, words));
    return exitCodeOfError(error);
  }
}

/** commander takes a variable's presence for a yes; here an empty one is not set, and a switch may say no. */
function dropUnset(program: Command, environment: NodeJS.ProcessEnv): void {
  for (const one of everyCommand(program).flatMap((inner) => inner.options)) {
    const value = one.envVar === undefined ? undefined : environment[one.envVar];
    if (one.envVar === undefined || value === undefined) continue;
    if (value === "" || (one.isBoolean() && /^(?:0|false|no|off)$/i.test(value))) delete environment[one.envVar];
  }
}

/** Found in the words, not in what commander made of them: the error may be that it could make nothing of one. */
function errorForm(program: Command, words: readonly string[]): "json" | "text" {
  // What follows belongs to the script.
  const end = words.indexOf("--");
  const own = end < 0 ? words : words.slice(0, end);
  let asked = program;
  for (const word of own) {
    const inner = asked.commands.find((one) => one.name() === word);
    if (inner === undefined) break;
    asked = inner;
  }
  const json = asked.options.find(({ long }) => long === "--json");
  if (json === undefined) return "text";
  const isSet = json.envVar !== undefined && process.env[json.envVar] !== undefined;
  return isSet || own.includes("--json") ? "json" : "text";
}
