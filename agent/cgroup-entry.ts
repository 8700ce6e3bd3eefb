// Takes the wait out of a script's entry into its control group. Linux lets the first process that moves on an idle host wait
// for all processors (a grace period of RCU: 6 to 20 ms on two cores) and those that come some 20 ms after it not at all. So
// the agent, once it knows that a script is about to enter, moves itself to where it is already, beside the work that is
// still to be done. Nothing depends on it. Invariant: an agent that somebody has put elsewhere is not moved back, but for a
// move between the look and the write that follows it at once.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock, type Clock } from "../shared/clock.ts";

/** Those that come this close to each other find the door open, and one move more would only be in their way. */
const apartMs = 25;

export interface CgroupEntryDeps {
  readonly clock: Pick<Clock, "monotonicMs">;
  /** The text of `/proc/self/cgroup` now. */
  readonly ownGroups: () => Promise<string>;
  readonly enter: (path: string) => Promise<void>;
}

export const thisHost: CgroupEntryDeps = {
  clock: systemClock,
  // A thread of the pool waits, not the loop: before Linux 6.8 a look waits for whoever is moving.
  ownGroups: () => readFile("/proc/self/cgroup", "utf8"),
  // Of version 2 the number 0 stands for whoever writes.
  enter: (path) => writeFile(join(path, "cgroup.procs"), "0"),
};

export interface CgroupEntryOptions {
  /** Folder of this process's own group of version 2. */
  readonly path: string;
  /** The text of `/proc/self/cgroup` that says so. */
  readonly ownGroups: string;
}

export class CgroupEntry {
  readonly #deps: CgroupEntryDeps;
  readonly #options: CgroupEntryOptions;
  #stage: "idle" | "entering" = "idle";
  #expectedAtMs = -Infinity;

  constructor(options: CgroupEntryOptions, deps: CgroupEntryDeps = thisHost) {
    this.#deps = deps;
    this.#options = options;
  }

  /**
   * Resolves when it is done, whether the host let us or not. Does nothing soon after another, while one is under way, or when
   * this process was put elsewhere.
   */
  async expect(): Promise<void> {
    const nowMs = this.#deps.clock.monotonicMs();
    const isAlone = nowMs - this.#expectedAtMs >= apartMs;
    this.#expectedAtMs = nowMs;
    if (!isAlone || this.#stage === "entering") return;
    this.#stage = "entering";
    const { path, ownGroups } = this.#options;
    try {
      if ((await this.#deps.ownGroups()) === ownGroups) await this.#deps.enter(path);
    } catch {
      // Without the right, or for want of a descriptor: the script waits itself.
    } finally {
      this.#stage = "idle";
    }
  }
}
