// The exclusive right of one server process to its data directory. Owns the lock, not what lies in the directory.
// Invariant: the kernel frees the lock with the process, however it dies; nothing stale can ever hold it.
//
// Node has no flock, but its own SQLite locks a database file with fcntl. Checked on Node 26: a second process is
// refused at once, kill -9 frees it, children such as PostgreSQL do not inherit it, 2 ms to take. A file with pid, start
// time and boot id would be guesswork after a crash, and worthless between two containers that share a volume.
import { chmodSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { makeClosedFolderSync } from "../shared/closed-folder.ts";
import { AppError, describeError } from "../shared/errors.ts";
import type { Service } from "../shared/service.ts";

const sqliteBusy = 5;

export interface DataDirectoryOptions {
  /** Created with mode 0700 when it does not exist. */
  readonly directory: string;
}

export class DataDirectoryLock implements Service {
  readonly #options: DataDirectoryOptions;
  #state: { readonly is: "free" } | { readonly is: "held"; readonly database: DatabaseSync } = { is: "free" };

  constructor(options: DataDirectoryOptions) {
    this.#options = options;
  }

  /** Throws AppError `data-directory.locked` naming the holder's pid, or `data-directory.missing` when unusable. */
  async start(): Promise<void> {
    if (this.#state.is === "held") return;
    const { directory } = this.#options;
    let database: DatabaseSync | undefined;
    try {
      makeClosedFolderSync(directory);
      const path = join(directory, "server.lock");
      database = new DatabaseSync(path);
      chmodSync(path, 0o600);
      database.exec("pragma busy_timeout = 0; pragma journal_mode = memory; begin exclusive");
      // In a file of its own: closing any descriptor of the locked file would free an fcntl lock.
      writeFileSync(this.#pidPath, `${process.pid}\n`, { mode: 0o600 });
    } catch (cause) {
      database?.close();
      throw this.#refusal(cause);
    }
    this.#state = { is: "held", database };
  }

  async stop(): Promise<void> {
    if (this.#state.is === "free") return;
    const { database } = this.#state;
    this.#state = { is: "free" };
    rmSync(this.#pidPath, { force: true });
    database.close();
  }

  get #pidPath(): string {
    return join(this.#options.directory, "server.pid");
  }

  #refusal(cause: unknown): AppError {
    const { directory } = this.#options;
    const isBusy = cause instanceof Error && "errcode" in cause && cause.errcode === sqliteBusy;
    if (isBusy) {
      return new AppError("data-directory.locked", `${directory} is in use by another server, pid ${this.#holder()}`, {
        cause,
      });
    }
    return new AppError("data-directory.missing", `${directory} cannot be used: ${describeError(cause)}`, { cause });
  }

  #holder(): string {
    try {
      return readFileSync(this.#pidPath, "utf8").trim();
    } catch {
      // The holder has not written it yet, or belongs to another user.
      return "unknown";
    }
  }
}
