// Builds command line options with the environment variable each has (CONVENTIONS: one per flag, HOLDFAST_ and upper snake).
// What an act is about (which agents, which script) has none: a forgotten variable must not decide that.
import { Option } from "commander";
import { AppError } from "../shared/errors.ts";
import { parseDuration } from "./duration.ts";
import { parseHostPort } from "./host-port.ts";

export interface OptionForm {
  /** As commander writes them: `--data-dir <dir>`. */
  readonly flags: string;
  readonly description: string;
  /** `act` options have no environment variable. */
  readonly kind: "setting" | "act";
  readonly parse?: (text: string) => unknown;
  /** May be given several times; texts are collected. */
  readonly repeatable?: "repeatable";
  readonly choices?: readonly string[];
  readonly fallback?: { readonly value: unknown; readonly shown: string };
}

export function option(form: OptionForm): Option {
  const made = new Option(form.flags, form.description);
  if (form.kind === "setting") made.env(environmentName(made));
  if (form.choices !== undefined) made.choices(form.choices);
  if (form.fallback !== undefined) made.default(form.fallback.value, form.fallback.shown);
  const { parse } = form;
  if (parse !== undefined) made.argParser((text: string) => named(made, () => parse(text)));
  if (form.repeatable !== undefined) made.argParser(collector());
  return made;
}

export function environmentName(made: Option): string {
  return `HOLDFAST_${made.name().replaceAll("-", "_").toUpperCase()}`;
}

/** Every value given, in order; the environment variable holds several parted by commas. */
function collector(): (text: string, earlier: unknown) => string[] {
  const collected: string[] = [];
  return (text) => {
    collected.push(text);
    return collected;
  };
}

function named<Value>(made: Option, parse: () => Value): Value {
  try {
    return parse();
  } catch (cause) {
    const error = AppError.from(cause);
    throw new AppError("config.invalid", `${made.long ?? made.flags}: ${error.message}`, { mend: error.mend, cause });
  }
}

export const jsonOption = (): Option =>
  option({ flags: "--json", description: "print JSON for programs", kind: "setting" });

export const urlOptions = (): Option[] => [
  option({
    flags: "--url <url>",
    description: "server's address (else the saved login, else http://127.0.0.1:8080)",
    kind: "setting",
  }),
  option({
    flags: "--api-key <key>",
    description: "API key, or file://PATH, env://NAME, fd://N (else the saved login)",
    kind: "setting",
  }),
];

export const pageOptions = (): Option[] => [
  option({
    flags: "--limit <count>",
    description: "rows to show, 1 to 200",
    kind: "act",
    parse: parseCount,
    fallback: { value: 50, shown: "50" },
  }),
  option({ flags: "--cursor <next>", description: "go on where an earlier listing's `next` said", kind: "act" }),
];

export const logLevelOption = (): Option =>
  option({
    flags: "--log-level <level>",
    description: "how much to log on stderr, as JSON lines",
    kind: "setting",
    choices: ["debug", "info", "warn", "error", "silent"],
    fallback: { value: "info", shown: "info" },
  });

export const durationOption = (form: Pick<OptionForm, "flags" | "description" | "kind" | "fallback">): Option =>
  option({ ...form, parse: parseDuration });

export const listenOption = (form: Pick<OptionForm, "flags" | "description"> & { readonly value: string }): Option =>
  option({
    ...form,
    kind: "setting",
    parse: parseHostPort,
    fallback: { value: parseHostPort(form.value), shown: form.value },
  });

export const countOption = (form: Pick<OptionForm, "flags" | "description"> & { readonly fallback: number }): Option =>
  option({
    ...form,
    kind: "setting",
    parse: parseCount,
    fallback: { value: form.fallback, shown: String(form.fallback) },
  });

export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new AppError("config.invalid", `"${text}" is not a number from 1`);
  return Number(text);
}
