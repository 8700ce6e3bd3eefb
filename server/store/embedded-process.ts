// One postmaster: recognises a running one as ours, launches, waits and ends it, by pid. What cluster it serves and
// with which settings is embedded.ts's choice. Invariant: no signal goes to a process not proved to be that postmaster.
import { spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { constants } from "node:fs";
import { copyFile, open, readFile, readlink, realpath, stat, truncate } from "node:fs/promises";
import { createServer } from "node:net";
import { endianness } from "node:os";
import { basename } from "node:path";
import type { Clock } from "../../shared/clock.ts";
import { AppError, errnoOf } from "../../shared/errors.ts";
import type { Quarters } from "./embedded-account.ts";

export interface Postmaster {
  readonly pid: number;
  readonly port: number;
  /** PostgreSQL's own word in postmaster.pid. */
  readonly status: "starting" | "stopping" | "ready" | "standby";
}

const cleanlyShutDown = 1;
const cleanlyShutDownInRecovery = 2;
const pollMs = 10;
/** Recovery after a crash replays up to max_wal_size; a slow disk may take minutes. */
const startLimitMs = 900_000;
const fastStopMs = 30_000;
const immediateStopMs = 5_000;
/** The log is cut to one older copy beyond this size. */
const logBytesAtMost = 16 * 1024 * 1024;

/** The postmaster that serves this cluster now, by postmaster.pid and what the system says about that pid. */
export async function findPostmaster(cluster: string): Promise<Postmaster | undefined> {
  let text: string;
  try {
    text = await readFile(`${cluster}/postmaster.pid`, "utf8");
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return undefined;
    throw cause;
  }
  // Lines: pid, data directory, start time, port, socket directory, listen address, shared memory key, status.
  const lines = text.split("\n").map((line) => line.trim());
  const [pid, port] = [Number(lines[0]), Number(lines[3])];
  if (!Number.isInteger(pid) || pid <= 1 || !(await servesCluster(pid, cluster))) return undefined;
  const status = (["ready", "standby", "stopping"] as const).find((word) => word === lines[7]) ?? "starting";
  return { pid, port: Number.isInteger(port) ? port : 0, status };
}

/** Whether the pid is taken, be it by a zombie: what PostgreSQL itself looks at. */
export function isPidTaken(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return errnoOf(cause) === "EPERM";
  }
}

/** False also for a zombie: in a container nobody may ever collect an adopted postmaster. */
export async function isAlive(pid: number): Promise<boolean> {
  if (!isPidTaken(pid)) return false;
  if (process.platform !== "linux") return true;
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return !/^\d+ \(.*\) [ZX]/s.test(line) && line !== "";
}

/**
 * Whether the process lives and is a postmaster of this cluster. It works in its data directory, so on Linux /proc tells
 * for certain; elsewhere its command line does.
 */
export async function servesCluster(pid: number, cluster: string): Promise<boolean> {
  if (!(await isAlive(pid))) return false;
  if (process.platform === "linux") {
    try {
      const [cwd, program] = await Promise.all([readlink(`/proc/${pid}/cwd`), readlink(`/proc/${pid}/exe`)]);
      return cwd === (await realpath(cluster)) && basename(program.replace(/ \(deleted\)$/, "")) === "postgres";
    } catch {
      return false;
    }
  }
  const { stdout } = spawnSync("ps", ["-o", "command=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.includes("postgres") && stdout.includes(cluster);
}

/** Whether pg_control (enum DBState) says that the cluster was not shut down in good order. */
export async function wasLeftRunning(cluster: string): Promise<boolean> {
  // struct ControlFileData: system id (8), pg_control version (4), catalogue version (4), state (4).
  const control = await open(`${cluster}/global/pg_control`);
  try {
    const { buffer } = await control.read(Buffer.alloc(20), 0, 20, 0);
    const state = endianness() === "LE" ? buffer.readInt32LE(16) : buffer.readInt32BE(16);
    return state !== cleanlyShutDown && state !== cleanlyShutDownInRecovery;
  } finally {
    await control.close();
  }
}

/** Launches a postmaster that outlives this process and waits until it takes connections. */
export async function launchPostmaster(
  deps: { readonly clock: Clock; readonly quarters: Quarters },
  options: {
    readonly program: string;
    readonly args: readonly string[];
    readonly cluster: string;
    readonly logPath: string;
  },
): Promise<Postmaster> {
  const log = await open(options.logPath, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o600);
  let child: ChildProcess | undefined;
  let end: string | undefined;
  try {
    const { size: logStart } = await log.stat();
    child = deps.quarters.launch(options.program, options.args, log.fd);
    child.once("error", (cause) => (end = cause.message));
    child.once("exit", (code, signal) => (end = `exit ${code ?? signal ?? "unknown"}`));
    child.unref();
    const postmaster = await waitUntilReady(deps, options.cluster, async () => end);
    if (typeof postmaster !== "string") return postmaster;
    const words = (await readFile(options.logPath))
      .subarray(logStart)
      .toString("utf8")
      .trim()
      .split("\n")
      .slice(-5)
      .join(" | ");
    throw new AppError(
      "embedded-postgres.failed",
      `PostgreSQL did not start: ${postmaster}; ${options.logPath} says: ${words}`,
    );
  } catch (cause) {
    if (child?.pid !== undefined && end === undefined) child.kill("SIGQUIT");
    throw cause;
  } finally {
    await log.close();
  }
}

/** Waits while the postmaster starts or recovers; gives its end, in `endOf`'s words, when it has ended before. */
export async function waitUntilReady(
  deps: { readonly clock: Clock },
  cluster: string,
  endOf: () => Promise<string | undefined>,
): Promise<Postmaster | string> {
  const deadlineMs = deps.clock.monotonicMs() + startLimitMs;
  for (;;) {
    const end = await endOf();
    if (end !== undefined) return end;
    const postmaster = await findPostmaster(cluster);
    if (postmaster?.status === "ready") return postmaster;
    if (deps.clock.monotonicMs() > deadlineMs) {
      throw new AppError(
        "embedded-postgres.failed",
        `PostgreSQL is not ready after ${startLimitMs / 1_000} s: ${postmaster?.status ?? "no postmaster"}`,
      );
    }
    await deps.clock.sleep(pollMs);
  }
}

/** Fast shutdown, after 30 s an immediate one (recovers at the next start), 5 s later KILL to its process group. */
export async function stopPostmaster(
  deps: { readonly clock: Clock },
  postmaster: Pick<Postmaster, "pid">,
  cluster: string,
): Promise<"gone" | "fast" | "immediate" | "killed"> {
  const { pid } = postmaster;
  // Its pid may be another process by now: it is asked again before each signal.
  if (!(await servesCluster(pid, cluster))) return "gone";
  process.kill(pid, "SIGINT");
  if (await hasEnded(deps.clock, pid, fastStopMs)) return "fast";
  if (await servesCluster(pid, cluster)) process.kill(pid, "SIGQUIT");
  if (await hasEnded(deps.clock, pid, immediateStopMs)) return "immediate";
  if (await servesCluster(pid, cluster)) process.kill(-pid, "SIGKILL");
  await hasEnded(deps.clock, pid, immediateStopMs);
  return "killed";
}

/** Whether the process is gone within `limitMs`. */
export async function hasEnded(clock: Clock, pid: number, limitMs: number): Promise<boolean> {
  const deadlineMs = clock.monotonicMs() + limitMs;
  while (await isAlive(pid)) {
    if (clock.monotonicMs() > deadlineMs) return false;
    await clock.sleep(pollMs);
  }
  return true;
}

/** A loopback port nobody listens on: `wanted` when it is free, else any. */
export async function freePort(wanted = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (cause) => {
      if (wanted !== 0 && errnoOf(cause) === "EADDRINUSE") resolve(freePort());
      else reject(cause);
    });
    server.listen({ host: "127.0.0.1", port: wanted }, () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/** PostgreSQL appends, so the file can be cut under it; at most 16 MiB and one older copy stay. */
export async function boundLog(logPath: string): Promise<void> {
  const { size } = await stat(logPath);
  if (size <= logBytesAtMost) return;
  await copyFile(logPath, `${logPath}.1`);
  await truncate(logPath, 0);
}
