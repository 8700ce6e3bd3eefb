// Options that say which script runs and in which surroundings; those of `holdfast run` about when and how long are its own.
import type { Option } from "commander";
import { AppError } from "../shared/errors.ts";
import { userNameSchema } from "../shared/task.ts";
import { option } from "./option.ts";
import type { Shell } from "./shell.ts";

export interface ScriptFlags {
  readonly script?: string;
  readonly interpreter?: string;
  readonly interpreterArg?: readonly string[];
  readonly arg?: readonly string[];
  readonly env?: readonly string[];
  readonly secret?: readonly string[];
  readonly secretFile?: readonly string[];
  readonly cwd?: string;
  readonly attach?: readonly string[];
  readonly user?: string;
}

export const scriptOptions = (): Option[] => [
  option({
    flags: "--script <file>",
    description: "script file, or - for standard input; words after -- become its arguments",
    kind: "act",
  }),
  option({
    flags: "--interpreter <name>",
    description: "bash, sh, python3, node, pwsh or an absolute path on the agent",
    kind: "setting",
    fallback: { value: "bash", shown: "bash" },
  }),
  option({
    flags: "--interpreter-arg <word>",
    description: "argument of the interpreter, before the script, such as -u (repeatable)",
    kind: "act",
    repeatable: "repeatable",
  }),
  option({
    flags: "--arg <word>",
    description: "argument of the script, before the words after -- (repeatable)",
    kind: "act",
    repeatable: "repeatable",
  }),
  option({
    flags: "--env <K=V>",
    description: "environment variable of the script (repeatable)",
    kind: "act",
    repeatable: "repeatable",
  }),
  option({
    flags: "--secret <NAME=from>",
    description: "secret environment variable: file://PATH, env://NAME, - or the value (repeatable)",
    kind: "act",
    repeatable: "repeatable",
  }),
  option({
    flags: "--secret-file <NAME=from>",
    description: "the same as a file of the script's; the variable holds its path (repeatable)",
    kind: "act",
    repeatable: "repeatable",
  }),
  option({
    flags: "--attach <file[:name]>",
    description: "small file for the script's work folder, HOLDFAST_WORK (repeatable; 256 KiB together)",
    kind: "act",
    repeatable: "repeatable",
  }),
  option({ flags: "--cwd <dir>", description: "working directory on the agent", kind: "act" }),
  option({
    flags: "--user <name>",
    description: "user of the target to run as, where the agent runs as root (default: the agent's own)",
    kind: "act",
    parse: parseUser,
  }),
];

/** Words are the script itself where no file is given. */
export async function scriptOf(
  shell: Pick<Shell, "readFile" | "readInput">,
  { words, flags }: { readonly words: readonly string[]; readonly flags: ScriptFlags },
): Promise<{ script: string; args: readonly string[] }> {
  const given = flags.arg ?? [];
  if (flags.script !== undefined) {
    const script = flags.script === "-" ? await shell.readInput() : await shell.readFile(flags.script);
    return { script, args: [...given, ...words] };
  }
  if (words.length === 0) {
    throw new AppError("config.invalid", "there is nothing to run", {
      mend: "Give --script FILE, or the script's text after --.",
    });
  }
  return { script: words.join(" "), args: given };
}

function parseUser(text: string): string {
  const parsed = userNameSchema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new AppError("config.invalid", parsed.error.issues[0]?.message ?? "not allowed");
}
