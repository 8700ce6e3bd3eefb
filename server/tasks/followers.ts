// Readers that wait for a task to change. A change stored through this node wakes them at once; changes through other
// nodes are found by one query per 200 ms for all waiting tasks together.
import type { Background } from "../../shared/background.ts";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { AttemptId, TaskId } from "../../shared/ids.ts";
import type { Service } from "../../shared/service.ts";
import type { Database } from "../store/connection.ts";
import { readLogHeads, type LogHead } from "../store/read-log.ts";

const pollMs = 200;

interface Watched {
  readonly wakers: Set<() => void>;
  mark: string;
}

export interface FollowersDeps {
  readonly database: Pick<Database, "durable">;
  readonly clock: Clock;
  readonly background: Background;
}

export class Followers implements Service {
  readonly #deps: FollowersDeps;
  readonly #watched = new Map<TaskId, Watched>();
  readonly #taskOf = new Map<AttemptId, TaskId>();
  #timer: Timer | undefined;
  #polling: "idle" | "running" = "idle";

  constructor(deps: FollowersDeps) {
    this.#deps = deps;
  }

  start(): Promise<void> {
    this.#timer = this.#deps.clock.every(pollMs, () => this.#poll());
    return Promise.resolve();
  }

  stop(): Promise<void> {
    this.#timer?.cancel();
    for (const task of this.#watched.keys()) this.wake(task);
    return Promise.resolve();
  }

  /**
   * Resolves when the task may have changed since this call; rejects with the signal's reason. Readers ask before they
   * read, so that a change between the read and the wait is not slept through.
   */
  wait(task: TaskId, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const watched = this.#watched.get(task) ?? { wakers: new Set(), mark: "" };
      this.#watched.set(task, watched);
      const leave = (): void => {
        watched.wakers.delete(wake);
        signal.removeEventListener("abort", abort);
      };
      const wake = (): void => {
        leave();
        resolve();
      };
      const abort = (): void => {
        leave();
        reject(signal.reason);
      };
      watched.wakers.add(wake);
      signal.addEventListener("abort", abort, { once: true });
    });
  }

  /** Remembers which task an attempt belongs to, while somebody follows it. */
  learn({ attempt, task }: Pick<LogHead, "attempt" | "task">): void {
    if (this.#taskOf.size > 20_000) this.#taskOf.clear();
    this.#taskOf.set(attempt, task);
  }

  /** Something of this attempt was stored here. */
  changed(attempt: AttemptId): void {
    const task = this.#taskOf.get(attempt);
    if (task !== undefined) this.wake(task);
  }

  wake(task: TaskId): void {
    for (const waker of this.#watched.get(task)?.wakers ?? []) waker();
  }

  #poll(): void {
    // A task nobody waits for between two looks is forgotten.
    for (const [task, { wakers }] of this.#watched) if (wakers.size === 0) this.#watched.delete(task);
    if (this.#polling === "running" || this.#watched.size === 0) return;
    this.#polling = "running";
    this.#deps.background.run("followers", async () => {
      try {
        const heads = await readLogHeads(this.#deps.database.durable, [...this.#watched.keys()]);
        for (const head of heads) {
          const watched = this.#watched.get(head.task);
          if (watched === undefined) continue;
          this.learn(head);
          const mark = `${head.attempt} ${head.state} ${head.out} ${head.err} ${head.cancelRequested} ${head.progressAt}`;
          if (watched.mark === mark) continue;
          watched.mark = mark;
          // Also at the first look, which has nothing to compare with: whoever waits looks for itself.
          this.wake(head.task);
        }
      } finally {
        this.#polling = "idle";
      }
    });
  }
}
