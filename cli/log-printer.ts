// How log bytes reach people and pipes. One task into a pipe: the bytes as they are. On a terminal: made safe. Several tasks,
// or times asked for: whole lines behind the time and the agent's name, coloured on a terminal only.
import type { LogContent } from "../sdk/follow.ts";
import { LineSplitter, type Line } from "../sdk/lines.ts";
import type { TaskReference } from "../sdk/run-handle.ts";
import { streams, type Stream } from "../shared/task.ts";
import { createProgressDisplay, type ProgressDisplay } from "./progress-line.ts";
import { colour, note, printJson, type Colour } from "./output.ts";
import type { Shell, Sink } from "./shell.ts";
import { safeLine, TerminalSafe } from "./terminal-safe.ts";

export interface LogPiece {
  readonly taskId: string;
  readonly agent: string;
  readonly stream: Stream;
  /** When the agent saw the first byte (RFC 3339); null when that is not known. */
  readonly at: string | null;
  readonly content: LogContent;
}

export interface LogPrinter {
  log(piece: LogPiece): Promise<void>;
  /** The task's log is complete: what was held back is printed. */
  end(task: TaskReference): Promise<void>;
  /** Where scripts' progress is shown, when it is. */
  readonly progress?: ProgressDisplay;
}

export interface Sinks {
  readonly out: Sink;
  readonly err: Sink;
}

export interface LogStyle {
  readonly timestamps?: boolean | undefined;
  /** What is printed is read by a program: no progress beside it. */
  readonly json?: boolean | undefined;
}

export function createLogPrinter(
  deps: { readonly shell: Shell; readonly sinks: Sinks },
  tasks: readonly TaskReference[],
  style: LogStyle = {},
): LogPrinter {
  const isPlain = tasks.length === 1 && style.timestamps !== true;
  const printer = isPlain ? plainPrinter(deps) : prefixedPrinter(deps, tasks, style);
  if (style.json === true) return printer;
  const progress = createProgressDisplay(deps.shell, tasks.length === 1 ? "plain" : "named");
  return withProgress(printer, { progress, sinks: deps.sinks, form: isPlain ? "bytes" : "lines" });
}

/** Shows progress below the log: cleared before each piece, drawn again where a line begins. */
function withProgress(
  printer: LogPrinter,
  options: { readonly progress: ProgressDisplay; readonly sinks: Sinks; readonly form: "bytes" | "lines" },
): LogPrinter {
  const { progress, sinks, form } = options;
  let column: "first" | "other" = "first";
  return {
    progress,
    async log(piece) {
      await progress.clear();
      await printer.log(piece);
      if (form === "bytes" && sinks[piece.stream].terminal) column = columnAfter(piece.content);
      await progress.redraw(column);
    },
    async end(task) {
      await progress.clear();
      await printer.end(task);
      await progress.redraw(column);
    },
  };
}

function columnAfter(content: LogContent): "first" | "other" {
  return "omitted" in content || content.bytes.at(-1) === 0x0a ? "first" : "other";
}

function plainPrinter({ shell, sinks }: { readonly shell: Shell; readonly sinks: Sinks }): LogPrinter {
  const safe = { out: new TerminalSafe(), err: new TerminalSafe() };
  return {
    log: async ({ stream, content }) => {
      const sink = sinks[stream];
      if ("omitted" in content)
        return note(shell, `${content.omitted} bytes of ${nameOf(stream)} omitted by the agent`);
      await sink.write(sink.terminal ? safe[stream].push(content.bytes) : content.bytes);
    },
    end: async () => {
      for (const stream of streams) if (sinks[stream].terminal) await sinks[stream].write(safe[stream].end());
    },
  };
}

const palette: readonly Colour[] = ["cyan", "magenta", "green", "blue", "yellow"];

function prefixedPrinter(
  { shell, sinks }: { readonly shell: Shell; readonly sinks: Sinks },
  tasks: readonly TaskReference[],
  { timestamps }: LogStyle,
): LogPrinter {
  const width = Math.max(...tasks.map((task) => task.agent.length));
  const colours = new Map(tasks.map((task, index) => [task.id, palette[index % palette.length] ?? "cyan"]));
  return linePrinter(async (line, piece) => {
    const sink = sinks[piece.stream];
    const time = timestamps === true ? (line.at ?? "-").padEnd("2026-01-01T00:00:00.000Z".length) : "";
    const agent = tasks.length > 1 ? piece.agent.padEnd(width) : "";
    const words = [time, agent, "|"].filter((word) => word !== "").join(" ");
    const prefix = colour(shell, sink, colours.get(piece.taskId) ?? "cyan", words);
    await sink.write(`${prefix} ${sink.terminal ? safeLine(line.text) : line.text}\n`);
  });
}

/** One JSON object per line of log. */
export function jsonLinePrinter(sink: Sink): LogPrinter {
  return linePrinter((line, { agent, taskId, stream }) => printJson(sink, { agent, task: taskId, stream, ...line }));
}

function linePrinter(print: (line: Line, piece: Omit<LogPiece, "content" | "at">) => Promise<void>): LogPrinter {
  const splitters = new Map<string, Record<Stream, LineSplitter>>();
  const splittersOf = (taskId: string): Record<Stream, LineSplitter> => {
    const known = splitters.get(taskId) ?? { out: new LineSplitter(), err: new LineSplitter() };
    splitters.set(taskId, known);
    return known;
  };
  return {
    log: async (piece) => {
      for (const line of splittersOf(piece.taskId)[piece.stream].push(piece)) await print(line, piece);
    },
    end: async (task) => {
      for (const stream of streams) {
        for (const line of splittersOf(task.id)[stream].end())
          await print(line, { taskId: task.id, agent: task.agent, stream });
      }
      splitters.delete(task.id);
    },
  };
}

function nameOf(stream: Stream): string {
  return stream === "out" ? "standard output" : "standard error";
}
