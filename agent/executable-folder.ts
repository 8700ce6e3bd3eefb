// The folder that holds the versions of the agent's single executable: `versions/<version>-<sum>/holdfast-agent`, and beside
// them `current`, a link to one of those. install.sh lays it out, `agent update` changes the link; whoever starts the agent
// starts it by `current`, so that a new version needs no other change. Written versions are never changed.
import { existsSync } from "node:fs";
import { readlink, rename, rm, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { syncDirectory } from "./journal-disk.ts";

export const executableName = "holdfast-agent";

export interface ExecutableFolder {
  readonly path: string;
  /** Of the version that runs, such as `0.1.0-3b6fbea9b5be`. */
  readonly version: string;
}

/** Undefined for an executable that lies elsewhere, as one that was copied by hand. */
export function executableFolderOf(executable: string): ExecutableFolder | undefined {
  const version = dirname(executable);
  const versions = dirname(version);
  if (basename(versions) !== "versions" || basename(executable) !== executableName) return undefined;
  return { path: dirname(versions), version: basename(version) };
}

export function currentProgram(folder: string): string {
  return join(folder, "current", executableName);
}

/** The path by which a service is to run this executable: through `current` where there is one. */
export function stableProgram(executable: string): string {
  const folder = executableFolderOf(executable);
  if (folder === undefined) return executable;
  const program = currentProgram(folder.path);
  return existsSync(program) ? program : executable;
}

export function versionProgram(folder: string, version: string): string {
  return join(folder, "versions", version, executableName);
}

/** The version that `current` names. */
export async function currentVersion(folder: string): Promise<string> {
  return basename(await readlink(join(folder, "current")));
}

/** At every moment `current` names a whole version, the earlier or this one. */
export async function pointCurrent(folder: string, version: string): Promise<void> {
  const next = join(folder, "current.new");
  await rm(next, { force: true });
  await symlink(join("versions", version), next);
  await rename(next, join(folder, "current"));
  await syncDirectory(folder);
}
