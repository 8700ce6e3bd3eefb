// One line of writes per attempt: they run one after the other, log pieces that wait are joined into one write.
// Retryable failures are tried again with a pause until the session ends. Any other failure ends the session: the agent
// then repeats on the next one whatever was not acknowledged.
import type { Background } from "../../shared/background.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { AttemptId } from "../../shared/ids.ts";
import type { Stream } from "../../shared/task.ts";
import { lengthOf, type LogContent } from "../../shared/wire/log.ts";
import type { LogRun } from "../store/append-log.ts";

const retryPauseMs = 500;

export interface JoinedRun {
  readonly homeNo: number;
  readonly runs: Readonly<Partial<Record<Stream, LogRun>>>;
  /** Content bytes held for it. */
  readonly bytes: number;
}

interface OpenRun {
  readonly kind: "log";
  readonly homeNo: number;
  readonly runs: Partial<Record<Stream, { readonly from: number; end: number; readonly pieces: LogContent[] }>>;
  bytes: number;
  readonly write: (run: JoinedRun) => Promise<void>;
}

type Step = OpenRun | { readonly kind: "act"; readonly act: () => Promise<void> };

export interface LogPart {
  readonly homeNo: number;
  readonly stream: Stream;
  readonly offset: number;
  readonly content: LogContent;
}

export interface AttemptWritesDeps {
  readonly background: Background;
  readonly clock: Clock;
  /** Aborts when the session ends. */
  readonly signal: AbortSignal;
  readonly onFailed: (error: AppError) => void;
}

export class AttemptWrites {
  readonly #deps: AttemptWritesDeps;
  readonly #lines = new Map<AttemptId, Step[]>();

  constructor(deps: AttemptWritesDeps) {
    this.#deps = deps;
  }

  run(attempt: AttemptId, act: () => Promise<void>): void {
    this.#push(attempt, { kind: "act", act });
  }

  /** Joins `part` to the log write that waits for this attempt, when it continues it; else it becomes a write of its own. */
  append(attempt: AttemptId, part: LogPart, write: (run: JoinedRun) => Promise<void>): void {
    const bytes = "bytes" in part.content ? part.content.bytes.length : 0;
    // The first step of a line is under way and takes no more.
    const last = this.#lines.get(attempt)?.slice(1).at(-1);
    if (last?.kind === "log" && last.homeNo === part.homeNo) {
      const run = last.runs[part.stream];
      if (run === undefined || run.end === part.offset) {
        if (run === undefined) last.runs[part.stream] = started(part);
        else {
          run.pieces.push(part.content);
          run.end += lengthOf(part.content);
        }
        last.bytes += bytes;
        return;
      }
    }
    this.#push(attempt, { kind: "log", homeNo: part.homeNo, runs: { [part.stream]: started(part) }, bytes, write });
  }

  #push(attempt: AttemptId, step: Step): void {
    const line = this.#lines.get(attempt);
    if (line !== undefined) {
      line.push(step);
      return;
    }
    const fresh = [step];
    this.#lines.set(attempt, fresh);
    this.#deps.background.run("attempt writes", () => this.#drain(attempt, fresh));
  }

  async #drain(attempt: AttemptId, line: Step[]): Promise<void> {
    for (let step = line[0]; step !== undefined; step = line[0]) {
      await this.#perform(step);
      line.shift();
    }
    this.#lines.delete(attempt);
  }

  async #perform(step: Step): Promise<void> {
    for (;;) {
      try {
        await (step.kind === "act" ? step.act() : step.write(step));
        return;
      } catch (cause) {
        const error = AppError.from(cause);
        if (!error.retryable || this.#deps.signal.aborted) {
          if (!this.#deps.signal.aborted) this.#deps.onFailed(error);
          return;
        }
        await this.#deps.clock.sleep(retryPauseMs, this.#deps.signal).catch(() => undefined);
      }
    }
  }
}

function started({ offset, content }: LogPart): { from: number; end: number; pieces: LogContent[] } {
  return { from: offset, end: offset + lengthOf(content), pieces: [content] };
}
