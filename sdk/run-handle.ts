// A submission being run: its log, its results, its cancel. Any of them may be used in any order; the end of a task that one
// of them saw is not asked for again.
import { beyondLog, startOfLog, type LogPosition, type StateEvent } from "../shared/api/task-events.ts";
import { taskViewSchema, type ProgressView, type TaskView } from "../shared/api/tasks.ts";
import { AppError } from "../shared/errors.ts";
import type { Stream, TaskState } from "../shared/task.ts";
import { followTask, type LogContent } from "./follow.ts";
import { LineSplitter } from "./lines.ts";
import { merge } from "./merge.ts";
import type { Transport } from "./transport.ts";

export interface TaskReference {
  readonly id: string;
  /** Name of the agent. */
  readonly agent: string;
}

interface Origin {
  readonly agent: string;
  readonly taskId: string;
}

export type LogBytes = Origin & {
  readonly stream: Stream;
  /** Of the first byte, in bytes the script produced. */
  readonly offset: number;
  /** When the agent saw the first byte, by its own calendar (RFC 3339); null when that is not known. */
  readonly at: string | null;
} & LogContent;

export type LogLine = Origin & {
  readonly stream: Stream;
  readonly text: string;
  /** When the agent saw where it begins, by its own calendar (RFC 3339); null when that is not known. */
  readonly at: string | null;
  /** True when a line over 16 KiB was cut here. */
  readonly continues: boolean;
  /** True when a carriage return ended it, as progress bars do: on a terminal the next line would take its place. */
  readonly overwritten?: boolean;
  /** Set on the notice that stands for dropped bytes. */
  readonly omittedBytes?: number;
};

export type RunEvent =
  | (Origin & {
      readonly kind: "log";
      readonly stream: Stream;
      readonly offset: number;
      readonly at: string | null;
      readonly content: LogContent;
    })
  | (Origin & { readonly kind: "state"; readonly state: StateEvent })
  | (Origin & { readonly kind: "end"; readonly task: TaskView });

export interface RunResult {
  readonly succeeded: boolean;
  /** The task's state; of several tasks `succeeded` when all are, else `failed`. */
  readonly state: TaskState;
  /** The script's exit code; of several tasks 0 when all succeeded, else null. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly reason: string | null;
  /** What the script set with `holdfast-set`; of several tasks empty: see their attempts. */
  readonly outputs: Readonly<Record<string, string>>;
  readonly tasks: readonly TaskView[];
}

export interface WatchOptions {
  readonly signal?: AbortSignal;
  /** Told when a connection was lost and is dialled again. */
  readonly onTrouble?: (error: AppError) => void;
  /** Told what a script says with `holdfast-progress`, the newest about once a second; `state` events have it too. */
  readonly onProgress?: (progress: RunProgress) => void;
}

export type RunProgress = Origin & ProgressView;

/** A browser or a node should not be asked for a thousand connections by one run. */
const mostStreams = 64;
const mostCancels = 16;

export class RunHandle {
  /** Id of the submission. */
  readonly id: string;
  readonly tasks: readonly TaskReference[];
  /** True when the idempotency key had been answered before. */
  readonly repeated: boolean;
  readonly #transport: Transport;
  readonly #ended = new Map<string, TaskView>();

  constructor(
    transport: Transport,
    submission: { readonly id: string; readonly tasks: readonly TaskReference[]; readonly repeated: boolean },
  ) {
    this.#transport = transport;
    this.id = submission.id;
    this.tasks = submission.tasks;
    this.repeated = submission.repeated;
  }

  /** Everything of every task as it happens: log, states, ends. */
  events(options: WatchOptions = {}): AsyncGenerator<RunEvent> {
    return this.#watch(this.tasks, { ...options, from: startOfLog });
  }

  /** The log as bytes, each once and in order per task and stream, over any number of reconnects. */
  async *bytes(options: WatchOptions = {}): AsyncGenerator<LogBytes> {
    for await (const event of this.events(options)) {
      if (event.kind !== "log") continue;
      const { agent, taskId, stream, offset, at, content } = event;
      yield { agent, taskId, stream, offset, at, ...content };
    }
  }

  /** The log as lines. Bytes that are not UTF-8 become U+FFFD; lines over 16 KiB come in pieces; a lone carriage return ends one. */
  async *log(options: WatchOptions = {}): AsyncGenerator<LogLine> {
    const splitters = new Map<string, { readonly out: LineSplitter; readonly err: LineSplitter }>();
    for await (const event of this.events(options)) {
      const { agent, taskId } = event;
      const own = splitters.get(taskId) ?? { out: new LineSplitter(), err: new LineSplitter() };
      splitters.set(taskId, own);
      if (event.kind === "log") {
        for (const line of own[event.stream].push(event)) yield { agent, taskId, stream: event.stream, ...line };
      }
      if (event.kind === "end") {
        for (const line of own.out.end()) yield { agent, taskId, stream: "out", ...line };
        for (const line of own.err.end()) yield { agent, taskId, stream: "err", ...line };
        splitters.delete(taskId);
      }
    }
  }

  /** Waits until every task is final; in the order of `tasks`. */
  async results(options: WatchOptions = {}): Promise<readonly TaskView[]> {
    const open = this.tasks.filter((task) => !this.#ended.has(task.id));
    for await (const _event of this.#watch(open, { ...options, from: beyondLog }));
    return this.tasks.map((task) => {
      const ended = this.#ended.get(task.id);
      if (ended === undefined) throw new AppError("internal", `the end of task ${task.id} was not seen`);
      return ended;
    });
  }

  /** Waits until every task is final and sums them up. */
  async result(options: WatchOptions = {}): Promise<RunResult> {
    const tasks = await this.results(options);
    const succeeded = tasks.every((task) => task.state === "succeeded");
    const only = tasks.length === 1 ? tasks[0] : undefined;
    if (only !== undefined) {
      const { state, exitCode, signal, reason } = only;
      return { succeeded, state, exitCode, signal, reason, outputs: outputsOf(only), tasks };
    }
    return {
      succeeded,
      state: succeeded ? "succeeded" : "failed",
      exitCode: succeeded ? 0 : null,
      signal: null,
      reason: null,
      outputs: {},
      tasks,
    };
  }

  /** Asks for the end of every task that is not final. The agents confirm it: wait for `results()`. */
  async cancel(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const open = this.tasks.filter((task) => !this.#ended.has(task.id));
    const cancelOne = (task: TaskReference, signal: AbortSignal): Promise<void> => this.#cancelOne(task, signal);
    const sources = open.map(
      (task) =>
        async function* (this: void, stop: AbortSignal) {
          yield await cancelOne(task, either(stop, options.signal));
        },
    );
    for await (const _nothing of merge(sources, { most: mostCancels }));
  }

  async #cancelOne(task: TaskReference, signal: AbortSignal): Promise<void> {
    try {
      const path = `/api/v1/tasks/${encodeURIComponent(task.id)}/cancel`;
      await this.#transport.json(taskViewSchema, { method: "POST", path, repeatable: "repeatable", signal });
    } catch (cause) {
      if (AppError.from(cause).code !== "task.finished") throw cause;
    }
  }

  #watch(
    tasks: readonly TaskReference[],
    options: WatchOptions & { readonly from: LogPosition },
  ): AsyncGenerator<RunEvent> {
    const sources = tasks.map(
      (task) => (stop: AbortSignal) => this.#watchOne(task, { ...options, signal: either(stop, options.signal) }),
    );
    return merge(sources, { most: mostStreams });
  }

  async *#watchOne(
    task: TaskReference,
    options: WatchOptions & { readonly signal: AbortSignal; readonly from: LogPosition },
  ): AsyncGenerator<RunEvent> {
    const origin = { agent: task.agent, taskId: task.id };
    const tellProgress = progressTeller(origin, options.onProgress);
    const followed = followTask(this.#transport, {
      task: task.id,
      from: options.from,
      signal: options.signal,
      onTrouble: options.onTrouble,
    });
    for await (const item of followed) {
      if (item.kind === "state") tellProgress(item.state);
      if (item.kind === "end") this.#ended.set(task.id, item.task);
      yield { ...origin, ...item };
    }
  }
}

/** Once for each thing said, however often its state comes: a state changes for other reasons and comes again on a reconnect. */
function progressTeller(origin: Origin, onProgress: WatchOptions["onProgress"]): (state: StateEvent) => void {
  let toldAt = "";
  return ({ progress }) => {
    if (progress === null || progress.at === toldAt) return;
    toldAt = progress.at;
    onProgress?.({ ...origin, ...progress });
  };
}

function either(one: AbortSignal, other: AbortSignal | undefined): AbortSignal {
  return other === undefined ? one : AbortSignal.any([one, other]);
}

/** Of the latest attempt. A server that knows of none says nothing. */
export function outputsOf(task: TaskView): Readonly<Record<string, string>> {
  return task.attempts.at(-1)?.outputs ?? {};
}
