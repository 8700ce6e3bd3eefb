// `--secret` and `--secret-file` of `holdfast run`: NAME=value, or where the value stands: file://PATH, env://NAME, fd://N,
// or - for standard input. Invariant: no message repeats what may be a value, not even of an option that is malformed.
import { AppError } from "../shared/errors.ts";
import { secretNameSchema, secretsSchema, type Secret } from "../shared/secret.ts";
import type { Shell } from "./shell.ts";

export interface SecretFlags {
  readonly secret?: readonly string[];
  readonly secretFile?: readonly string[];
  /** `-` means standard input here, too. */
  readonly script?: string;
}

export interface GivenSecrets {
  readonly secrets: readonly Secret[];
  /** Of these the value itself stood on the command line, where every user of this machine can read it. */
  readonly exposed: readonly string[];
}

type Where = "argument" | "input" | "elsewhere";

export async function readTaskSecrets(shell: Shell, flags: SecretFlags): Promise<GivenSecrets> {
  const given = [
    ...(flags.secret ?? []).map((text) => ({
      ...parted(text, "--secret"),
      option: "--secret",
      as: "variable" as const,
    })),
    ...(flags.secretFile ?? []).map((text) => ({
      ...parted(text, "--secret-file"),
      option: "--secret-file",
      as: "file" as const,
    })),
  ];
  if (given.filter(({ source }) => source === "-").length + (flags.script === "-" ? 1 : 0) > 1)
    throw new AppError("config.invalid", "standard input can be only one of the script and a secret");
  const secrets: Secret[] = [];
  const exposed: string[] = [];
  for (const { name, source, option, as } of given) {
    const { where, text } = await valueOf(shell, source);
    if (where === "argument") exposed.push(name);
    if (text.includes("\u{FFFD}")) {
      throw new AppError("config.invalid", `${option} ${name}: the value is not UTF-8 text`, {
        mend: "Give it in base64, and let the script decode it.",
      });
    }
    // What ends a line in a file or an answer is no part of a password; a file keeps its bytes.
    const value = as === "variable" && where !== "argument" ? text.replace(/\r?\n$/, "") : text;
    secrets.push({ name, value, as });
  }
  const checked = secretsSchema.safeParse(secrets);
  if (checked.success) return { secrets: checked.data, exposed };
  const [issue] = checked.error.issues;
  const index = issue?.path[0];
  const name = typeof index === "number" ? ` ${secrets[index]?.name ?? ""}` : "s";
  throw new AppError("config.invalid", `the secret${name}: ${issue?.message ?? "not allowed"}`);
}

async function valueOf(shell: Shell, source: string): Promise<{ readonly where: Where; readonly text: string }> {
  if (source === "-") return { where: "input", text: await shell.readInput() };
  const [, scheme, rest = ""] = /^(file|env|fd):\/\/(.+)$/.exec(source) ?? [];
  switch (scheme) {
    case "file":
      return { where: "elsewhere", text: await shell.readFile(rest) };
    case "env": {
      const value = shell.environment[rest];
      if (value === undefined) throw new AppError("config.invalid", `the environment variable ${rest} is not set`);
      return { where: "elsewhere", text: value };
    }
    case "fd":
      if (!/^\d+$/.test(rest)) throw new AppError("config.invalid", "fd:// names no descriptor by its number");
      return { where: "elsewhere", text: await shell.readDescriptor(Number(rest)) };
    default:
      return { where: "argument", text: source };
  }
}

function parted(text: string, option: string): { readonly name: string; readonly source: string } {
  const at = text.indexOf("=");
  const name = secretNameSchema.safeParse(text.slice(0, Math.max(0, at)));
  if (name.success) return { name: name.data, source: text.slice(at + 1) };
  throw new AppError("config.invalid", `${option}: expected NAME=…, with the name of an environment variable`, {
    mend: "Such as --secret DB_PASSWORD=file:///run/secrets/db. What was given is not shown here: it may be the secret.",
  });
}
