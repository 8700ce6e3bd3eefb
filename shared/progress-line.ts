// How far a script says it is: a percentage, a message, or both. For people; nothing is decided by it.
import { z } from "zod";

export const progressLimits = {
  /** Characters as a person counts them, roughly: code points. */
  messageCharacters: 200,
} as const;

export const progressPercent = z.int().min(0).max(100).nullable();

export interface ProgressLine {
  /** Null: the script does not know. */
  readonly percent: number | null;
  readonly message: string;
}

/** `40 % copying`, `40 %`, `copying`. The message is the script's: to be made safe where it is shown. */
export function progressText({ percent, message }: ProgressLine): string {
  return [percent === null ? "" : `${percent} %`, message].filter((word) => word !== "").join(" ");
}
