// Reads what a script left in the file of its output variables: `NAME=VALUE` per line, or between two NUL bytes when the
// value may hold line breaks; of a name the last counts. Invariant: what is not returned is named in `dropped`, and no
// secret of the task leaves in a name or a value.
import { isUtf8 } from "node:buffer";
import { errnoOf } from "../shared/errors.ts";
import { bytesOfOutputs, outputLimits, isOutputName, type OutputVariables } from "../shared/output-variables.ts";
import type { Redactor } from "./redact.ts";
import { readStart } from "./script-file.ts";

export interface ScriptOutputs {
  readonly variables: OutputVariables;
  /** What was set and is not among them, and why, for people; empty when there is nothing of it. */
  readonly dropped: string;
}

export const noOutputs: ScriptOutputs = { variables: [], dropped: "" };

/** A name may be set again and again, so the file may hold more than what is returned. */
const readBytesAtMost = 256 * 1024;
const noticesAtMost = 5;

const nul = 0x00;
const newline = 0x0a;
const equals = 0x3d;

export function readOutputs(path: string, redactor: Redactor | undefined): ScriptOutputs {
  let bytes: Buffer | undefined;
  try {
    bytes = readStart(path, readBytesAtMost + 1);
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return noOutputs;
    return { variables: [], dropped: `all (${errnoOf(cause) ?? "cannot be read"})` };
  }
  if (bytes === undefined) return { variables: [], dropped: "all (no plain file)" };
  return parseOutputs(bytes, redactor);
}

export function parseOutputs(file: Buffer, redactor: Redactor | undefined): ScriptOutputs {
  const values = new Map<string, string>();
  const dropped = new Map<string, string>();
  const isCut = file.length > readBytesAtMost;
  // Masked as one, before it is cut into entries: a secret of several lines would show in pieces.
  const masked = Buffer.from(file.subarray(0, readBytesAtMost));
  redactor?.mask(masked, { before: "open", after: isCut ? "cut" : "open" });
  let entryNo = 0;
  for (const entry of entriesOf(masked, isCut ? "torn" : "whole")) {
    entryNo += 1;
    const read = readEntry(entry);
    if (read.kind === "variable") {
      values.set(read.name, read.value);
      dropped.delete(read.name);
    } else dropped.set(read.name ?? `entry ${entryNo}`, read.why);
  }
  // A value that was set before and could not be replaced would be the wrong one.
  for (const name of dropped.keys()) values.delete(name);
  if (isCut) dropped.set("the rest", `beyond ${readBytesAtMost} bytes of file`);
  const variables: OutputVariables = [];
  let bytes = 0;
  for (const [name, value] of values) {
    const own = bytesOfOutputs([{ name, value }]);
    if (variables.length >= outputLimits.count) dropped.set(name, `over ${outputLimits.count} variables`);
    else if (bytes + own > outputLimits.bytes) dropped.set(name, `over ${outputLimits.bytes} bytes`);
    else {
      bytes += own;
      variables.push({ name, value });
    }
  }
  return { variables, dropped: describe(dropped) };
}

interface RawEntry {
  readonly bytes: Buffer;
  /** `torn`: its end is missing. */
  readonly form: "whole" | "torn";
}

/** `last`: what a line is that ends with the file. */
function* entriesOf(file: Buffer, last: RawEntry["form"]): Generator<RawEntry> {
  let at = 0;
  while (at < file.length) {
    const isFramed = file[at] === nul;
    const from = isFramed ? at + 1 : at;
    const end = isFramed ? endAt(file, from, [nul]) : endAt(file, from, [newline, nul]);
    const bytes = file.subarray(from, end);
    const form = end < file.length ? "whole" : isFramed ? "torn" : last;
    if (bytes.length > 0) yield { bytes, form };
    // The NUL that ends a line begins the entry behind it.
    at = isFramed || file[end] === newline ? end + 1 : end;
  }
}

/** The first of the ends, or the file's. One is looked for only as far as the other was found: lines may be many. */
function endAt(file: Buffer, from: number, ends: readonly number[]): number {
  return ends.reduce((nearest, end) => {
    const found = file.subarray(from, nearest).indexOf(end);
    return found < 0 ? nearest : from + found;
  }, file.length);
}

type Entry =
  | { readonly kind: "variable"; readonly name: string; readonly value: string }
  /** Without a name where it has none. */
  | { readonly kind: "dropped"; readonly name: string | undefined; readonly why: string };

/** The name of a masked entry holds a star where it was a secret, so it is none. */
function readEntry({ bytes, form }: RawEntry): Entry {
  const at = bytes.indexOf(equals);
  const name = bytes.toString("latin1", 0, Math.max(0, at));
  if (!isOutputName(name)) return { kind: "dropped", name: undefined, why: "no NAME=VALUE" };
  if (form === "torn") return { kind: "dropped", name, why: "not written to its end" };
  if (!isUtf8(bytes)) return { kind: "dropped", name, why: "not UTF-8" };
  return { kind: "variable", name, value: bytes.toString("utf8", at + 1) };
}

function describe(dropped: ReadonlyMap<string, string>): string {
  const told = [...dropped].slice(0, noticesAtMost).map(([what, why]) => `${what} (${why})`);
  const untold = dropped.size - told.length;
  return [...told, ...(untold > 0 ? [`${untold} more`] : [])].join(", ");
}
