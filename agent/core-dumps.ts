// Keeps what the agent holds in memory out of core dumps (SECURITY S13). The unit does so by itself; this is for an agent
// that is started otherwise. The soft limit only: a script without secrets may raise its own again.
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const limitMs = 5_000;

/** False where the host cannot. Node has no call for it, so `prlimit` of util-linux does it from outside. */
export async function forbidCoreDumps(pid: number): Promise<boolean> {
  if (process.platform !== "linux") return false;
  try {
    await promisify(execFile)("prlimit", ["--pid", String(pid), "--core=0:"], { timeout: limitMs });
    return true;
  } catch {
    return false;
  }
}
