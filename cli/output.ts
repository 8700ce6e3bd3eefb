// What people and programs read: tables, one JSON value, errors with their mend. Everything a server or an agent chose is
// made safe before a terminal sees it; programs get it as it is.
import { styleText } from "node:util";
import type { AppError } from "../shared/errors.ts";
import type { Shell, Sink } from "./shell.ts";
import { safeLine } from "./terminal-safe.ts";

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string | number | null;
}

export async function printJson(sink: Sink, value: unknown): Promise<void> {
  await sink.write(`${JSON.stringify(value)}\n`);
}

export async function printTable<Row>(
  sink: Sink,
  rows: readonly Row[],
  columns: readonly Column<Row>[],
): Promise<void> {
  const cells = rows.map((row) => columns.map((column) => safeLine(String(column.cell(row) ?? "-"))));
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...cells.map((row) => widthOf(row[index] ?? ""))),
  );
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, index) =>
        index === texts.length - 1 ? text : text + " ".repeat((widths[index] ?? 0) - widthOf(text)),
      )
      .join("  ");
  const lines = [columns.map((column) => column.title), ...cells].map((texts) => line(texts).trimEnd());
  await sink.write(`${lines.join("\n")}\n`);
}

/** `name: value`, one per line, for a single thing. */
export async function printFields(
  sink: Sink,
  fields: readonly (readonly [string, string | number | null])[],
): Promise<void> {
  const width = Math.max(...fields.map(([name]) => name.length));
  await sink.write(
    fields.map(([name, value]) => `${`${name}:`.padEnd(width + 2)}${safeLine(String(value ?? "-"))}\n`).join(""),
  );
}

/** The last words of a command that failed. */
export async function printError(shell: Shell, error: AppError, form: "text" | "json"): Promise<void> {
  if (form === "json") {
    await printJson(shell.err, { code: error.code, message: error.message, mend: error.mend });
    return;
  }
  const label = colour(shell, shell.err, "red", "holdfast:");
  await shell.err.write(`${label} ${safeLine(error.message)} (${error.code})\n  ${safeLine(error.mend)}\n`);
}

export async function note(shell: Shell, message: string): Promise<void> {
  await shell.err.write(`${colour(shell, shell.err, "yellow", "holdfast:")} ${safeLine(message)}\n`);
}

export type Colour = "red" | "green" | "yellow" | "blue" | "magenta" | "cyan";

/** Colours only on a terminal, and not where NO_COLOR is set to anything (no-color.org). */
export function colour(shell: Shell, sink: Sink, name: Colour, text: string): string {
  const wanted = sink.terminal && (shell.environment["NO_COLOR"] ?? "") === "" && shell.environment["TERM"] !== "dumb";
  return wanted ? styleText(name, text, { validateStream: false }) : text;
}

export function pairs(record: Readonly<Record<string, string>>): string {
  return Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

/** `1 agent`, `2 agents`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

const characters = new Intl.Segmenter();

/** As a person counts; wide characters of East Asia take two columns and are not accounted for. */
function widthOf(text: string): number {
  return Array.from(characters.segment(text)).length;
}
