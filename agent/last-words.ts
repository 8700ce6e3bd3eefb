// The time between a script's end and its shim's word of it. The shim waits until its relays have stored what the script wrote;
// what the script left running may hold the output open for ever, so once all is stored the wait is ended with an alarm.
// Invariant: the alarm comes only when what the script wrote is stored, or is marked as lost.
import type { Clock } from "../shared/clock.ts";
import { streams, type Stream } from "../shared/task.ts";
import type { AttemptFiles } from "./attempt-host.ts";
import type { ProcessControl } from "./process-tree.ts";
import type { ShimMark } from "./shim-report.ts";

export interface LastWordsDeps {
  readonly clock: Clock;
  readonly folder: Pick<AttemptFiles, "isConcluding" | "relays" | "markLost">;
  readonly processes: Pick<ProcessControl, "isAlive" | "isIdle" | "signal">;
  /** Bytes of a stream that are stored. */
  readonly sizeOf: (stream: Stream) => number;
}

export interface LastWordsOptions {
  /** Mostly the relays end at once; only then is it looked at more closely. */
  readonly lingerMs: number;
  /** How long a disk may take to store what is left in the pipes. */
  readonly storeMs: number;
}

/** What stood in a pipe when the script ended is through once this much more has come: no pipe holds more without privileges. */
const pipeBytes = 1_048_576;

export class LastWords {
  readonly #deps: LastWordsDeps;
  readonly #options: LastWordsOptions;
  #over: { readonly atMs: number; readonly sizes: Readonly<Record<Stream, number>> } | undefined;

  constructor(deps: LastWordsDeps, options: LastWordsOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** To be called again until the exit is there. */
  look(shim: ShimMark): void {
    const { clock, folder, processes, sizeOf } = this.#deps;
    if (!folder.isConcluding()) return;
    this.#over ??= { atMs: clock.monotonicMs(), sizes: { out: sizeOf("out"), err: sizeOf("err") } };
    const waitedMs = clock.monotonicMs() - this.#over.atMs;
    if (waitedMs < this.#options.lingerMs) return;
    const open = this.#open(this.#over.sizes);
    if (open.length > 0 && waitedMs < this.#options.storeMs) return;
    for (const stream of open) folder.markLost(stream);
    processes.signal(shim.pid, "SIGALRM");
  }

  /** Streams of which something may still be on its way. */
  #open(before: Readonly<Record<Stream, number>>): Stream[] {
    const { folder, processes, sizeOf } = this.#deps;
    const relays = folder.relays();
    return streams.filter((stream, at) => {
      const relay = relays[at];
      if (relay === undefined || !processes.isAlive(relay) || processes.isIdle(relay)) return false;
      return sizeOf(stream) - before[stream] < pipeBytes;
    });
  }
}
