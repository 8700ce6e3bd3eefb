// Follows a run on behalf of a command: prints its log, says what it waits for, and turns Ctrl-C into a cancel (once) or
// into leaving at once (twice). Lost connections are dialled again until the run is over.
import { AppError } from "../shared/errors.ts";
import type { StateEvent } from "../shared/api/task-events.ts";
import type { ProgressView } from "../shared/api/tasks.ts";
import { isFinal } from "../shared/task.ts";
import type { RunHandle } from "../sdk/run-handle.ts";
import { exitCodeOfInterrupt } from "./exit-code.ts";
import type { LogPrinter } from "./log-printer.ts";
import { note } from "./output.ts";
import type { Interrupt, Shell } from "./shell.ts";

export type Watched = { readonly kind: "ended" } | { readonly kind: "left"; readonly exitCode: number };

export interface WatchRun {
  readonly handle: RunHandle;
  readonly printer: LogPrinter;
  /** What the first Ctrl-C does. */
  readonly onFirstInterrupt: "cancel" | "leave";
}

export async function watchRun(shell: Shell, { handle, printer, onFirstInterrupt }: WatchRun): Promise<Watched> {
  const leave = new AbortController();
  let left: Interrupt | undefined;
  let presses = 0;
  let cancelling: Promise<void> = Promise.resolve();
  const release = shell.onInterrupt((signal) => {
    presses += 1;
    if (presses === 1 && onFirstInterrupt === "cancel") {
      cancelling = cancel(shell, { handle, printer, signal: leave.signal });
      return;
    }
    left = signal;
    leave.abort(new AppError("aborted", "left at once"));
  });
  try {
    await print(shell, { handle, printer, signal: leave.signal });
    return { kind: "ended" };
  } catch (cause) {
    if (left === undefined) throw cause;
    return { kind: "left", exitCode: exitCodeOfInterrupt(left) };
  } finally {
    release();
    await printer.progress?.clear();
    leave.abort(new AppError("aborted", "the run is over"));
    await cancelling;
  }
}

async function print(
  shell: Shell,
  watch: { handle: RunHandle; printer: LogPrinter; signal: AbortSignal },
): Promise<void> {
  const { handle, printer, signal } = watch;
  const waiting = new Map<string, string | null>();
  let troubled = false;
  const say = async (message: string): Promise<void> => {
    await printer.progress?.clear();
    await note(shell, message);
  };
  const onTrouble = (error: AppError): void => {
    if (troubled) return;
    troubled = true;
    void say(`${error.message}; connecting again, nothing is lost`);
  };
  for await (const event of handle.events({ signal, onTrouble })) {
    troubled = false;
    switch (event.kind) {
      case "log":
        await printer.log(event);
        break;
      case "state":
        if (event.state.waiting !== null && event.state.waiting !== waiting.get(event.taskId)) {
          await say(`${event.agent} waits: ${event.state.waiting}`);
        }
        await printer.progress?.show({ ...event, progress: progressOf(event.state) });
        waiting.set(event.taskId, event.state.waiting);
        break;
      case "end":
        await printer.progress?.show({ ...event, progress: null });
        await printer.end({ id: event.taskId, agent: event.agent });
        break;
    }
  }
}

/** What an ended script said last is no progress any more. */
function progressOf({ state, progress }: StateEvent): ProgressView | null {
  return isFinal(state) ? null : progress;
}

async function cancel(
  shell: Shell,
  run: { handle: RunHandle; printer: LogPrinter; signal: AbortSignal },
): Promise<void> {
  await run.printer.progress?.clear();
  await note(shell, "cancelling; waiting for the agents to confirm (press Ctrl-C again to leave at once)");
  try {
    await run.handle.cancel({ signal: run.signal });
  } catch (cause) {
    await run.printer.progress?.clear();
    if (!run.signal.aborted) await note(shell, `cannot cancel: ${AppError.from(cause).message}`);
  }
}
