// The reference of every command and flag, rendered from the commands themselves. docs/configuration.md holds it and a test
// holds them equal.
import type { Command, Option } from "commander";
import { everyCommand, wordsOf } from "./tree.ts";

export interface FlagRow {
  readonly command: string;
  readonly flags: string;
  /** Null for what an act is about: a forgotten variable must not decide that. */
  readonly environment: string | null;
  readonly fallback: string | null;
  readonly meaning: string;
}

export function flagsOf(program: Command): FlagRow[] {
  return everyCommand(program).flatMap((one) => one.options.map((option) => rowOf(one, option)));
}

export function renderReference(program: Command): string {
  const rows = flagsOf(program);
  const commands = [...new Set(rows.map((row) => row.command))];
  const sections = commands.map((words) => {
    const lines = rows
      .filter((row) => row.command === words)
      .map(
        (row) =>
          `| \`${row.flags}\` | ${code(row.environment)} | ${code(row.fallback)} | ${row.meaning.replaceAll("|", "\\|")} |`,
      );
    return `## \`${words}\`\n\n| Flag | Environment | Default | Meaning |\n| --- | --- | --- | --- |\n${lines.join("\n")}\n`;
  });
  return sections.join("\n");
}

function rowOf(one: Command, option: Option): FlagRow {
  const choices = option.argChoices === undefined ? "" : ` (${option.argChoices.join(", ")})`;
  return {
    command: wordsOf(one),
    flags: option.flags,
    environment: option.envVar ?? null,
    fallback: option.defaultValueDescription ?? null,
    meaning: `${option.description}${choices}`,
  };
}

function code(text: string | null): string {
  return text === null ? "–" : `\`${text}\``;
}
