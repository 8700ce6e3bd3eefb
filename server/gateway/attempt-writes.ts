// One line of writes per attempt: they run one after the other. While they wait, log pieces are joined into one write and
// a later progress or result takes the place of an earlier progress, for it implies it: what reaches a node in one socket
// read costs one write. What waits is weighed, so that its session can stop reading. Retryable failures are tried again with a
// pause until the session ends; any other failure ends the session. What has not begun by then is dropped, for the agent
// repeats on the next one whatever was not acknowledged, and one that comes anew again and again would leave ever more behind.
import type { Background } from "../../shared/background.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import type { AttemptId } from "../../shared/ids.ts";
import type { Stream } from "../../shared/task.ts";
import { lengthOf, type LogContent } from "../../shared/wire/log.ts";
import type { LogRun } from "../store/append-log.ts";

const retryPauseMs = 500;
/** What a piece or a step that waits takes besides its content: itself, its reasons, and the frame it came in. */
const eachBytes = 2_048;

export interface JoinedRun {
  readonly homeNo: number;
  readonly runs: Readonly<Partial<Record<Stream, LogRun>>>;
  /** Content bytes held for it. */
  readonly bytes: number;
}

interface LogStep {
  readonly kind: "log";
  weight: number;
  readonly homeNo: number;
  readonly runs: Partial<Record<Stream, { readonly from: number; end: number; readonly pieces: LogContent[] }>>;
  bytes: number;
  readonly write: (run: JoinedRun) => Promise<void>;
}

/** `progress` may be left out when a later progress or the result waits behind it; `result` and `other` never. */
export type WriteKind = "progress" | "result" | "other";

interface ActStep {
  readonly kind: WriteKind;
  readonly weight: number;
  readonly act: () => Promise<void>;
}

type Step = LogStep | ActStep;

interface Line {
  /** The first step of a running line is under way and takes no more. */
  state: "gathering" | "running";
  steps: Step[];
}

export interface LogPart {
  readonly homeNo: number;
  readonly stream: Stream;
  readonly offset: number;
  readonly content: LogContent;
}

export interface AttemptWritesDeps {
  readonly background: Background;
  readonly clock: Clock;
  /** Calls once the current turn of the event loop is over. */
  readonly defer: (act: () => void) => void;
  /** Aborts when the session ends. */
  readonly signal: AbortSignal;
  readonly onFailed: (error: AppError) => void;
  /** Less waits than before. */
  readonly onWritten: () => void;
  /** Log of so many content bytes will not be written: its session has ended. */
  readonly onDropped: (bytes: number) => void;
}

export class AttemptWrites {
  readonly #deps: AttemptWritesDeps;
  readonly #lines = new Map<AttemptId, Line>();
  #heldBytes = 0;

  constructor(deps: AttemptWritesDeps) {
    this.#deps = deps;
  }

  /** Attempts with a write waiting or under way. */
  get size(): number {
    return this.#lines.size;
  }

  /** Memory of what waits or is under way, of few attempts or many. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** `contentBytes`: what the act holds on to that the peer chose the size of. */
  run(attempt: AttemptId, kind: WriteKind, act: () => Promise<void>, contentBytes = 0): void {
    if (kind !== "other") this.#dropProgress(attempt);
    this.#push(attempt, { kind, act, weight: eachBytes + contentBytes });
  }

  /** Joins `part` to the log write that waits for this attempt, when it continues it; else it becomes a write of its own. */
  append(attempt: AttemptId, given: LogPart, write: (run: JoinedRun) => Promise<void>): void {
    const part = { ...given, content: withoutFrame(given.content) };
    const bytes = "bytes" in part.content ? part.content.bytes.length : 0;
    const weight = eachBytes + bytes;
    const last = this.#waiting(attempt).at(-1);
    if (last?.kind === "log" && last.homeNo === part.homeNo) {
      const run = last.runs[part.stream];
      if (run === undefined || run.end === part.offset) {
        if (run === undefined) last.runs[part.stream] = started(part);
        else {
          run.end += lengthOf(part.content);
          // Omissions that follow each other are one, which takes no more than it did.
          if (!joinOmissions(run.pieces, part.content)) run.pieces.push(part.content);
          else return;
        }
        last.bytes += bytes;
        last.weight += weight;
        this.#heldBytes += weight;
        return;
      }
    }
    const runs = { [part.stream]: started(part) };
    this.#push(attempt, { kind: "log", homeNo: part.homeNo, runs, bytes, weight, write });
  }

  #waiting(attempt: AttemptId): readonly Step[] {
    const line = this.#lines.get(attempt);
    if (line === undefined) return [];
    return line.state === "running" ? line.steps.slice(1) : line.steps;
  }

  #dropProgress(attempt: AttemptId): void {
    const line = this.#lines.get(attempt);
    if (line === undefined) return;
    line.steps = line.steps.filter((step, index) => {
      const stays = step.kind !== "progress" || (index === 0 && line.state === "running");
      if (!stays) this.#heldBytes -= step.weight;
      return stays;
    });
  }

  #push(attempt: AttemptId, step: Step): void {
    this.#heldBytes += step.weight;
    const line = this.#lines.get(attempt);
    if (line !== undefined) {
      line.steps.push(step);
      return;
    }
    const fresh: Line = { state: "gathering", steps: [step] };
    this.#lines.set(attempt, fresh);
    this.#deps.defer(() => this.#deps.background.run("attempt writes", () => this.#drain(attempt, fresh)));
  }

  async #drain(attempt: AttemptId, line: Line): Promise<void> {
    line.state = "running";
    for (let step = line.steps[0]; step !== undefined; step = line.steps[0]) {
      if (!this.#deps.signal.aborted) await this.#perform(step);
      else if (step.kind === "log") this.#deps.onDropped(step.bytes);
      line.steps.shift();
      this.#heldBytes -= step.weight;
      if (line.steps.length === 0) this.#lines.delete(attempt);
      this.#deps.onWritten();
    }
  }

  async #perform(step: Step): Promise<void> {
    for (;;) {
      try {
        await (step.kind === "log" ? step.write(step) : step.act());
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

/** The bytes are a part of the frame they came in, and keep all of it: a mebibyte, for the sake of one byte. */
function withoutFrame(content: LogContent): LogContent {
  if (!("bytes" in content) || 2 * content.bytes.length >= content.bytes.buffer.byteLength) return content;
  return { ...content, bytes: new Uint8Array(content.bytes) };
}

function joinOmissions(pieces: LogContent[], next: LogContent): boolean {
  const last = pieces.at(-1);
  if (last === undefined || !("omitted" in last) || !("omitted" in next)) return false;
  pieces[pieces.length - 1] = { ...last, omitted: last.omitted + next.omitted };
  return true;
}
