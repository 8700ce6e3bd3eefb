// Folders of scripts that run as another user, in <data directory>.users: the data directory is closed to all others, and so
// is what is above these scripts' files in it. Each attempt's folder here is root's and can be passed through (0711); what
// lies in it belongs to the script's user and is closed to everybody else.
// Invariant: root writes, renames and removes nothing below a folder that another user could exchange at that moment.
import { chmodSync, lstatSync, mkdirSync } from "node:fs";
import { chmod, lchown, readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { AppError, errnoOf } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import { installCommands } from "./command-install.ts";

export class UserPlaces {
  readonly path: string;
  #commands: Promise<string> | undefined;

  constructor(options: { readonly dataPath: string }) {
    this.path = placesOf(options.dataPath);
  }

  /** Makes the folder of them all. Throws when something else is there. */
  open(): void {
    try {
      mkdirSync(this.path, { mode: 0o711 });
    } catch (cause) {
      if (errnoOf(cause) !== "EEXIST") throw cause;
    }
    const found = lstatSync(this.path);
    if (!found.isDirectory() || found.uid !== process.getuid?.())
      throw new AppError("internal", `${this.path} is not a folder of the agent's own`);
    // Whatever umask the agent has.
    if ((found.mode & 0o777) !== 0o711) chmodSync(this.path, 0o711);
  }

  place(attempt: AttemptId): string {
    return join(this.path, attempt);
  }

  /** Folder of the commands, readable for all. */
  commands(): Promise<string> {
    this.#commands ??= installCommands(this.path, "all").catch((cause: unknown) => {
      this.#commands = undefined;
      throw cause;
    });
    return this.#commands;
  }

  /** The script has ended: nobody but root can change anything in its folder any more. Gives whether there is one. */
  async takeBack(attempt: AttemptId): Promise<"taken" | "none"> {
    try {
      await takeFolder(this.place(attempt));
      return "taken";
    } catch (cause) {
      const errno = errnoOf(cause);
      if (errno === "ENOENT" || errno === "ENOTDIR") return "none";
      throw cause;
    }
  }

  /** Only what was taken back. */
  async remove(attempt: AttemptId): Promise<void> {
    await rm(this.place(attempt), { recursive: true, force: true });
  }
}

/** With the data directory itself; no script may be running. */
export async function removeUserPlaces(dataPath: string): Promise<void> {
  const path = placesOf(dataPath);
  try {
    await takeFolder(path);
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return;
    throw cause;
  }
  await rm(path, { recursive: true, force: true });
}

/** Beside the data directory however it was named: with a slash at its end it would be inside, and a trial starts at `/`. */
function placesOf(dataPath: string): string {
  return `${resolve(dataPath)}.users`;
}

/**
 * From the top down, each folder before what is in it: once it is root's and closed, none of its entries can be exchanged
 * for a link, not even through a descriptor that is still open. Without it whoever owns the tree could turn the removal,
 * which goes by paths, to files elsewhere.
 */
async function takeFolder(root: string): Promise<void> {
  const open = [root];
  for (let folder = open.pop(); folder !== undefined; folder = open.pop()) {
    await lchown(folder, process.getuid?.() ?? 0, process.getgid?.() ?? 0);
    await chmod(folder, 0o700);
    for (const entry of await readdir(folder, { withFileTypes: true }))
      if (entry.isDirectory()) open.push(join(folder, entry.name));
  }
}
