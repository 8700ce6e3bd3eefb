// When to look at the folder of an attempt that runs: at what the watch tells of, and from time to time for what it does not.
// Leaves what there is to see to execution.ts. Invariant: whatever the watch tells or keeps to itself, everything is looked at
// again within the slowest period; and a watch that tells too much costs no more than polling.
import type { Clock, Timer } from "../shared/clock.ts";
import type { FolderWatch } from "./attempt-host.ts";

/** At the output alone, at every file, or at the processes as well. */
export type Look = "output" | "files" | "everything";

export interface FolderFollowerDeps {
  readonly clock: Clock;
  /** Throws when the folder cannot be watched. */
  readonly watch: (onChange: (name?: string) => void) => FolderWatch;
  readonly onUnwatched: (cause: unknown) => void;
  readonly onLook: (look: Look) => void;
  /** Bytes of output seen so far. */
  readonly size: () => number;
}

export interface FolderFollowerOptions {
  /** Between two looks at a watched folder in which nothing happens. Default 1,000. */
  readonly slowestPollMs?: number;
}

const quickestPollMs = 50;
/** Where nothing is watched, the longest a line of output waits to be seen. */
const blindPollMs = 250;
const slowestPollMs = 1_000;
/** Between two looks that file events cause. */
const lookPauseMs = 1;
/** File events beyond which watching costs more than polling, and the time in which so many come. */
const noisyEvents = 200;
const noisyMs = 250;
/** Segments and marks of the streams: more output, and nothing else. */
const outputName = /^(?:out|err)\./;

export class FolderFollower {
  readonly #deps: FolderFollowerDeps;
  readonly #slowestPollMs: number;
  #watcher: FolderWatch | undefined;
  #poll: Timer | undefined;
  #pollMs = quickestPollMs;
  #soon: { readonly timer: Timer; look: Look } | undefined;
  #lookedAtMs = -Infinity;
  #burst = { events: 0, sinceMs: 0 };

  constructor(deps: FolderFollowerDeps, options: FolderFollowerOptions = {}) {
    this.#deps = deps;
    this.#slowestPollMs = options.slowestPollMs ?? slowestPollMs;
  }

  /** Looks at once, and from then on. */
  start(): void {
    this.#armPoll();
    this.#watch();
    this.#look("files");
  }

  stop(): void {
    this.#unwatch();
    this.#poll?.cancel();
    this.#poll = undefined;
    this.#soon?.timer.cancel();
    this.#soon = undefined;
  }

  /** Something is about to happen that no event may tell of. */
  hasten(): void {
    if (this.#poll === undefined || this.#pollMs === quickestPollMs) return;
    this.#pollMs = quickestPollMs;
    this.#poll.cancel();
    this.#armPoll();
  }

  #watch(): void {
    try {
      this.#watcher = this.#deps.watch((name) => this.#noticed(name));
    } catch (cause) {
      // Out of inotify watches: polling alone is slower by its period and loses nothing.
      this.#deps.onUnwatched(cause);
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #noticed(name: string | undefined): void {
    if (this.#poll === undefined) return;
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs - this.#burst.sinceMs > noisyMs) this.#burst = { events: 0, sinceMs: nowMs };
    this.#burst.events += 1;
    if (this.#burst.events > noisyEvents) {
      this.#unwatch();
      this.hasten();
      return;
    }
    const look = name !== undefined && outputName.test(name) ? "output" : "files";
    if (this.#soon !== undefined) {
      if (look === "files") this.#soon.look = look;
      return;
    }
    const sinceMs = nowMs - this.#lookedAtMs;
    if (sinceMs >= lookPauseMs) {
      this.#look(look);
      return;
    }
    const timer = this.#deps.clock.after(lookPauseMs - sinceMs, () => {
      const due = this.#soon?.look ?? look;
      this.#soon = undefined;
      this.#look(due);
    });
    this.#soon = { timer, look };
  }

  #armPoll(): void {
    this.#poll = this.#deps.clock.after(this.#pollMs, () => {
      const before = this.#deps.size();
      this.#look("everything");
      if (this.#poll === undefined) return;
      const hasGrown = this.#deps.size() > before;
      const slowestMs = this.#watcher === undefined ? Math.min(blindPollMs, this.#slowestPollMs) : this.#slowestPollMs;
      this.#pollMs = hasGrown ? quickestPollMs : Math.min(slowestMs, this.#pollMs * 2);
      if (this.#watcher === undefined && !hasGrown) this.#watch();
      this.#armPoll();
    });
  }

  #look(look: Look): void {
    this.#lookedAtMs = this.#deps.clock.monotonicMs();
    this.#deps.onLook(look);
  }
}
