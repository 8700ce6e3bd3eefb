// Reads how far a script says it is: the first line of its progress file, `PERCENT MESSAGE`, where `-` is no percentage.
// The file is written over, not added to, so whatever a script says and however often, one small read finds the newest; what
// a longer line before it left behind the first one is not looked at.
// Invariant: a line that is not written to its end says nothing, and no secret of the task leaves in a message.
import { progressLimits, progressPercent, type ProgressLine } from "../shared/progress-line.ts";
import type { Redactor } from "./redact.ts";
import { readStart } from "./script-file.ts";

/** More than any message that is told, so that what is cut off would not have been told either. */
const readBytesAtMost = 4_096;

const newline = 0x0a;

export function readProgress(path: string, redactor: Redactor | undefined): ProgressLine | undefined {
  try {
    const bytes = readStart(path, readBytesAtMost);
    return bytes === undefined ? undefined : parseProgress(bytes, redactor);
  } catch {
    // There is none, or it is a link, or it may not be read: the script says nothing.
    return undefined;
  }
}

/** `file` is at most the first 4,096 bytes. */
export function parseProgress(file: Buffer, redactor: Redactor | undefined): ProgressLine | undefined {
  // Masked before it is cut into lines and characters, and as if more could follow: a script may be writing it now.
  const masked = Buffer.from(file);
  redactor?.mask(masked, { before: "open", after: "cut" });
  // Looked for in what the script wrote: in a masked one a line break may be a star.
  const end = file.indexOf(newline);
  if (end < 0 && file.length < readBytesAtMost) return undefined;
  const line = masked.toString("utf8", 0, end < 0 ? file.length : end);
  const [, number = "", rest = ""] = /^\s*(\d{1,3}|-)(?:\s+(.*))?$/s.exec(line) ?? [];
  if (number === "") return undefined;
  const percent = progressPercent.safeParse(number === "-" ? null : Number(number));
  const message = Array.from(rest.trim()).slice(0, progressLimits.messageCharacters).join("");
  if (!percent.success || (percent.data === null && message === "")) return undefined;
  return { percent: percent.data, message };
}
