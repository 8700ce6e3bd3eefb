// A disk of its own for an agent, small enough to be filled: a tmpfs. Root and Linux only. Invariant: after `remove` it is
// unmounted and gone, once what runs there has ended.
import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "../../shared/errors.ts";
import { eventually } from "./eventually.ts";

export class SmallDisk implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Mounted at `path`, which is made. */
  static mount(path: string, mebibytes = 64): SmallDisk {
    mkdirSync(path);
    run("mount", "-t", "tmpfs", "-o", `size=${mebibytes}m,mode=700`, "holdfast-test", path);
    return new SmallDisk(path);
  }

  /** Fills it to its last byte; resolves with what makes room again. */
  fill(): () => void {
    const path = join(this.path, "ballast");
    const file = openSync(path, "w");
    try {
      for (let chunk = Buffer.alloc(1024 * 1024); ;) {
        try {
          writeSync(file, chunk);
        } catch (cause) {
          if (errnoOf(cause) !== "ENOSPC") throw cause;
          if (chunk.length === 1) return () => rmSync(path, { force: true });
          chunk = chunk.subarray(0, Math.max(1, chunk.length >> 1));
        }
      }
    } finally {
      closeSync(file);
    }
  }

  async remove(): Promise<void> {
    await eventually("the disk is unmounted", () => {
      run("umount", this.path);
      return { done: true, state: this.path };
    });
    rmSync(this.path, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }
}

function run(program: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
}
