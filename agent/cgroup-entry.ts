// Takes the wait out of a script's entry into its control group. Linux lets the first process that moves on an idle host wait
// for all processors (a grace period of RCU: 6 to 20 ms on two cores) and those that come some 20 ms after it not at all. So
// the agent, once it knows that a script is about to enter, moves itself to where it is already, beside the work that is
// still to be done. Invariant: nothing depends on it, and the agent stays in its group.
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock, type Clock } from "../shared/clock.ts";

/** Those that come this close to each other find the door open, and one move more would only be in their way. */
const apartMs = 25;

export interface CgroupEntryDeps {
  readonly clock: Pick<Clock, "monotonicMs">;
  /** The text of `/proc/self/cgroup` now. */
  readonly ownGroups: () => string;
  /** Rejects when the host does not let us. */
  readonly enter: (path: string) => Promise<void>;
}

const thisHost: CgroupEntryDeps = {
  clock: systemClock,
  ownGroups: () => readFileSync("/proc/self/cgroup", "utf8"),
  // Of version 2 the number 0 stands for whoever writes; a thread of the pool waits, not the loop.
  enter: (path) => writeFile(join(path, "cgroup.procs"), "0"),
};

export class CgroupEntry {
  readonly #deps: CgroupEntryDeps;
  readonly #path: string;
  readonly #groups: string;
  #stage: "idle" | "entering" | "refused" = "idle";
  #expectedAtMs = -Infinity;

  /** `path` is the folder of this process's own group of version 2. */
  constructor(path: string, deps: CgroupEntryDeps = thisHost) {
    this.#deps = deps;
    this.#path = path;
    this.#groups = deps.ownGroups();
  }

  /** Returns at once. Does nothing soon after another, while one is under way, or when this process was put elsewhere. */
  expect(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    const isAlone = nowMs - this.#expectedAtMs >= apartMs;
    this.#expectedAtMs = nowMs;
    if (!isAlone || this.#stage !== "idle" || this.#deps.ownGroups() !== this.#groups) return;
    this.#stage = "entering";
    this.#deps.enter(this.#path).then(
      () => {
        this.#stage = "idle";
      },
      () => {
        this.#stage = "refused";
      },
    );
  }
}
