// One agent process per data directory. flock(1) locks our own open file, so the kernel lets go when we die, however we
// die; where there is no flock, a file names the holder and is taken over from the dead.
// Invariant: a lock that start() obtained is held until stop() or the end of the process.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { open, readFile } from "node:fs/promises";
import { AppError, errnoOf } from "../shared/errors.ts";
import type { Service } from "../shared/service.ts";
import { isAlive, readProcess } from "./process-table.ts";

export interface DataLockOptions {
  readonly path: string;
  readonly hostBootId: string;
}

type State = { readonly kind: "free" } | { readonly kind: "held"; readonly handle: FileHandle };

export class DataLock implements Service {
  readonly #options: DataLockOptions;
  #state: State = { kind: "free" };

  constructor(options: DataLockOptions) {
    this.#options = options;
  }

  /** Throws `journal.locked`, naming the holder's pid. */
  async start(): Promise<void> {
    const { path, hostBootId } = this.#options;
    const handle = await open(path, "a+", 0o600);
    try {
      const verdict = await flock(handle.fd);
      const holder = parseHolder(await readFile(path, "utf8"));
      const isStale = holder === undefined || holder.hostBootId !== hostBootId || !isAlive(holder);
      if (verdict === "taken" || (verdict === "no-flock" && !isStale)) {
        throw new AppError("journal.locked", `${path} is held by process ${holder?.pid ?? "unknown"}`);
      }
      const startTicks = readProcess(process.pid)?.startTicks ?? "0";
      await handle.truncate(0);
      await handle.writeFile(`${process.pid} ${startTicks} ${hostBootId}\n`);
    } catch (cause) {
      await handle.close();
      throw cause;
    }
    this.#state = { kind: "held", handle };
  }

  async stop(): Promise<void> {
    if (this.#state.kind === "free") return;
    const { handle } = this.#state;
    this.#state = { kind: "free" };
    await handle.truncate(0);
    await handle.close();
  }
}

export type LockView =
  | { readonly kind: "free" }
  | { readonly kind: "held"; readonly pid: number }
  /** Its process is gone, with an earlier boot of the host or within this one; the next agent takes it over. */
  | { readonly kind: "stale"; readonly pid: number; readonly since: "other-boot" | "this-boot" };

/** Who holds the lock, by what the file says: taking it to find out would turn away an agent that starts meanwhile. */
export function viewLock({ path, hostBootId }: DataLockOptions): LockView {
  const holder = parseHolder(textOf(path));
  if (holder === undefined) return { kind: "free" };
  const { pid } = holder;
  if (holder.hostBootId !== hostBootId) return { kind: "stale", pid, since: "other-boot" };
  return isAlive(holder) ? { kind: "held", pid } : { kind: "stale", pid, since: "this-boot" };
}

/** The process that holds the lock now, if any. */
export function readLockHolder(path: string, hostBootId: string): { readonly pid: number } | undefined {
  const view = viewLock({ path, hostBootId });
  return view.kind === "held" ? { pid: view.pid } : undefined;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return "";
    throw cause;
  }
}

function parseHolder(
  text: string,
): { readonly pid: number; readonly startTicks: string; readonly hostBootId: string } | undefined {
  const [pid, startTicks, hostBootId] = text.trim().split(" ");
  if (pid === undefined || startTicks === undefined || hostBootId === undefined) return undefined;
  return { pid: Number(pid), startTicks, hostBootId };
}

/** flock(2) belongs to the open file, which the child inherits as descriptor 3 and shares with us. */
function flock(descriptor: number): Promise<"held" | "taken" | "no-flock"> {
  return new Promise((resolve, reject) => {
    const child = spawn("flock", ["-x", "-n", "3"], { stdio: ["ignore", "ignore", "ignore", descriptor] });
    child.on("error", (cause) => (errnoOf(cause) === "ENOENT" ? resolve("no-flock") : reject(cause)));
    child.on("exit", (code) => resolve(code === 0 ? "held" : "taken"));
  });
}
