// Named pipes made ahead, for Node cannot make one and a process per start is dear: they are only moved into an attempt's
// folder. Nothing depends on it: a shim that finds none makes its own.
// Invariant: a pipe is given to one attempt.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { linkSync, lstatSync, unlinkSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Background } from "../shared/background.ts";
import { describeError } from "../shared/errors.ts";
import type { Logger } from "../shared/logger.ts";

export interface PipePoolDeps {
  readonly background: Background;
  readonly logger: Logger;
}

export interface PipePoolOptions {
  /** Folder on the file system of the attempts. */
  readonly path: string;
  /** Pipes kept in store; refilled when half of them are gone. Default 40: twenty starts. */
  readonly size?: number;
}

export class PipePool {
  readonly #deps: PipePoolDeps;
  readonly #path: string;
  readonly #size: number;
  #names: string[] = [];
  #made = 0;
  #refill: "idle" | "running" = "idle";

  constructor(deps: PipePoolDeps, options: PipePoolOptions) {
    this.#deps = deps;
    this.#path = options.path;
    this.#size = options.size ?? 40;
  }

  /** Finds what an earlier process left, and makes the rest in the background. */
  async start(): Promise<void> {
    await mkdir(this.#path, { recursive: true, mode: 0o700 });
    this.#names = await readdir(this.#path);
    this.#made = Math.max(0, ...this.#names.map(Number).filter(Number.isSafeInteger));
    this.#refillIfDue();
  }

  /** Moves a pipe to each of these places while there are any; a place that gets none, or has one, stays as it is. */
  take(places: readonly string[]): void {
    for (const place of places) {
      const name = this.#names.pop();
      if (name === undefined) break;
      try {
        this.#move(join(this.#path, name), place);
      } catch (cause) {
        this.#deps.logger.debug({ err: cause }, `a pipe could not be taken: ${describeError(cause)}`);
      }
    }
    this.#refillIfDue();
  }

  /**
   * By a link, which replaces nothing: an older shim may hold the pipe that is there. One that has two names already was
   * given away by a process that died then, and is not given twice; what is no pipe came from a copy of the folder.
   */
  #move(from: string, to: string): void {
    const found = lstatSync(from);
    try {
      if (found.isFIFO() && found.nlink === 1) linkSync(from, to);
    } finally {
      unlinkSync(from);
    }
  }

  #refillIfDue(): void {
    if (this.#refill === "running" || this.#names.length > this.#size / 2) return;
    this.#refill = "running";
    const fresh = Array.from({ length: this.#size - this.#names.length }, () => String((this.#made += 1)));
    this.#deps.background.run("make pipes", async () => {
      try {
        const child = spawn("mkfifo", ["-m", "600", ...fresh], { cwd: this.#path, stdio: "ignore" });
        const [code] = (await once(child, "exit")) as [number | null];
        if (code === 0) this.#names.push(...fresh);
        else this.#deps.logger.debug({ code }, "pipes could not be made ahead");
      } catch (cause) {
        this.#deps.logger.debug({ err: cause }, `pipes could not be made ahead: ${describeError(cause)}`);
      } finally {
        this.#refill = "idle";
      }
    });
  }
}
