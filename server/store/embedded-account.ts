// Which user the embedded PostgreSQL runs as, and how that user's processes reach its files. PostgreSQL refuses root.
// Invariant: no directory that is not ours has its mode changed to let that user through.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { constants } from "node:fs";
import { open, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { AppError, errnoOf } from "../../shared/errors.ts";

export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** Nothing of the server's environment, which may hold secrets and PG… variables. */
const childEnvironment = { LC_ALL: "C", PATH: "/usr/local/bin:/usr/bin:/bin", TZ: "UTC" };
const outputCharsAtMost = 65_536;

/**
 * For root: the owner of an existing cluster, else `postgres`, else `nobody`; for others `undefined` (this user).
 * Throws AppError `embedded-postgres.failed` when the cluster belongs to a user this process cannot become.
 */
export async function accountFor(clusterDirectory: string): Promise<Account | undefined> {
  const ownUid = process.geteuid?.();
  const owner = await stat(clusterDirectory).catch((cause: unknown) => {
    if (errnoOf(cause) === "ENOENT") return undefined;
    throw AppError.from(cause, "embedded-postgres.failed");
  });
  if (ownUid !== 0) {
    if (owner === undefined || owner.uid === ownUid) return undefined;
    throw new AppError(
      "embedded-postgres.failed",
      `${clusterDirectory} belongs to uid ${owner.uid}, this server runs as uid ${ownUid}`,
      {
        mend: "Start the server as that user or as root, or choose another --data-dir.",
      },
    );
  }
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  const account = lookUp("postgres") ?? lookUp("nobody");
  if (account === undefined) {
    throw new AppError(
      "embedded-postgres.failed",
      "PostgreSQL does not run as root, and there is neither a user postgres nor nobody",
      {
        mend: "Create a user `postgres`, or run the server as an ordinary user.",
      },
    );
  }
  return account;
}

/** Asks `id`, which also knows users from LDAP and the like. */
function lookUp(name: string): Account | undefined {
  const numbers = ["-u", "-g"].map((flag) => spawnSync("id", [flag, name], { encoding: "utf8" }));
  const [uid, gid] = numbers.map(({ status, stdout }) => (status === 0 ? Number(stdout.trim()) : Number.NaN));
  return uid !== undefined && gid !== undefined && uid > 0 && gid >= 0 ? { uid, gid } : undefined;
}

/** Runs programs as an account, with one directory open for them. */
export interface Quarters {
  readonly account: Account | undefined;
  /** The path under which the account's processes see a file of the directory. */
  pathOf(...names: string[]): string;
  /** Starts a program and waits for its end. */
  run(command: string, args: readonly string[]): Promise<{ readonly exitCode: number; readonly output: string }>;
  /** Starts a program in a process group of its own, which outlives this process; output goes to `logFd`. */
  launch(command: string, args: readonly string[], logFd: number): ChildProcess;
  close(): Promise<void>;
}

/**
 * As root on Linux the directory is handed over as an open descriptor and named `/proc/self/fd/3`: so it may lie below
 * directories that are closed to the account, such as /root. Checked with initdb, start, reload, create database and
 * recovery on PostgreSQL 18. Elsewhere the plain path is used and must be traversable.
 */
export async function openQuarters(directory: string, account: Account | undefined): Promise<Quarters> {
  const isHandedOver = account !== undefined && process.platform === "linux";
  const handle: FileHandle | undefined = isHandedOver
    ? await open(directory, constants.O_RDONLY | constants.O_DIRECTORY)
    : undefined;
  const common = { cwd: "/", env: childEnvironment, ...account };
  const extra = handle === undefined ? [] : [handle.fd];
  return {
    account,
    pathOf: (...names) => join(handle === undefined ? directory : "/proc/self/fd/3", ...names),
    run: (command, args) => {
      const child = spawn(command, args, { ...common, stdio: ["ignore", "pipe", "pipe", ...extra] });
      let output = "";
      for (const stream of [child.stdout, child.stderr]) {
        stream?.setEncoding("utf8");
        stream?.on("data", (text: string) => (output = (output + text).slice(-outputCharsAtMost)));
      }
      return new Promise((resolve) => {
        child.once("error", (cause) => resolve({ exitCode: -1, output: cause.message }));
        child.once("close", (code) => resolve({ exitCode: code ?? -1, output: output.trim() }));
      });
    },
    launch: (command, args, logFd) =>
      spawn(command, args, { ...common, detached: true, stdio: ["ignore", logFd, logFd, ...extra] }),
    close: async () => handle?.close(),
  };
}
