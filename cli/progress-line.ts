// How far scripts say they are, beside their log. On a terminal: one line at the end of what is shown, redrawn. Elsewhere: a
// line per step that says something, seldom enough for the log of a build. Invariant: on standard error only, made safe,
// and whoever writes anything else to the terminal clears the line first.
import type { ProgressView } from "../shared/api/tasks.ts";
import { progressText } from "../shared/progress-line.ts";
import { note } from "./output.ts";
import type { Shell } from "./shell.ts";
import { safeLine } from "./terminal-safe.ts";

export interface ProgressOfTask {
  readonly taskId: string;
  readonly agent: string;
  /** Null: its task is not running, or it has said nothing. */
  readonly progress: ProgressView | null;
}

export interface ProgressDisplay {
  show(of: ProgressOfTask): Promise<void>;
  /** Before anything else is written. */
  clear(): Promise<void>;
  /** After it; `column` says whether the cursor stands where a line begins. */
  redraw(column: "first" | "other"): Promise<void>;
}

/** `named`: behind the agent's name, where there are several. */
export function createProgressDisplay(shell: Shell, form: "plain" | "named"): ProgressDisplay {
  const isDrawable = shell.err.terminal && shell.environment["TERM"] !== "dumb";
  return isDrawable ? new StatusLine(shell, form) : new ProgressNotices(shell, form);
}

/** Back to the line's begin, which is erased. */
const erase = "\r\x1b[2K";
/** No wrapping: what is too long for the terminal is cut by it, and the line stays one that can be erased. */
const wrapOff = "\x1b[?7l";
const wrapOn = "\x1b[?7h";

class StatusLine implements ProgressDisplay {
  readonly #shell: Shell;
  readonly #form: "plain" | "named";
  /** What each task said last; the one that changed last is shown. */
  readonly #texts = new Map<string, string>();
  #drawn = "";
  #column: "first" | "other" = "first";

  constructor(shell: Shell, form: "plain" | "named") {
    this.#shell = shell;
    this.#form = form;
  }

  async show({ taskId, agent, progress }: ProgressOfTask): Promise<void> {
    const text = progress === null ? undefined : textOf(agent, progress, this.#form);
    if (text === this.#texts.get(taskId)) return;
    this.#texts.delete(taskId);
    if (text !== undefined) this.#texts.set(taskId, text);
    await this.#draw();
  }

  async clear(): Promise<void> {
    if (this.#drawn === "") return;
    this.#drawn = "";
    await this.#shell.err.write(erase);
  }

  async redraw(column: "first" | "other"): Promise<void> {
    this.#column = column;
    await this.#draw();
  }

  /** Not behind a line of the script's that has not ended: erasing it would take that along. */
  async #draw(): Promise<void> {
    const text = this.#column === "first" ? ([...this.#texts.values()].at(-1) ?? "") : "";
    if (text === this.#drawn) return;
    const before = this.#drawn === "" ? "" : erase;
    this.#drawn = text;
    await this.#shell.err.write(before + (text === "" ? "" : `${wrapOff}${text}${wrapOn}`));
  }
}

/** A step of this many percent is worth a line, as other words are. */
const stepPercent = 10;
/** Between two lines of one task, by the clock that dates what scripts say. */
const pauseMs = 5_000;

class ProgressNotices implements ProgressDisplay {
  readonly #shell: Shell;
  readonly #form: "plain" | "named";
  readonly #last = new Map<string, ProgressView>();

  constructor(shell: Shell, form: "plain" | "named") {
    this.#shell = shell;
    this.#form = form;
  }

  async show({ taskId, agent, progress }: ProgressOfTask): Promise<void> {
    if (progress === null || !isWorthALine(progress, this.#last.get(taskId))) return;
    this.#last.set(taskId, progress);
    await note(this.#shell, textOf(agent, progress, this.#form));
  }

  clear(): Promise<void> {
    return Promise.resolve();
  }

  redraw(): Promise<void> {
    return Promise.resolve();
  }
}

function isWorthALine(progress: ProgressView, last: ProgressView | undefined): boolean {
  if (last === undefined) return true;
  if (Date.parse(progress.at) - Date.parse(last.at) < pauseMs) return false;
  if (progress.message !== last.message || progress.percent === null || last.percent === null)
    return progressText(progress) !== progressText(last);
  return Math.abs(progress.percent - last.percent) >= stepPercent;
}

function textOf(agent: string, progress: ProgressView, form: "plain" | "named"): string {
  return safeLine(form === "named" ? `${agent}: ${progressText(progress)}` : progressText(progress));
}
