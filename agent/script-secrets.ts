// Hands secrets to a script that is about to start: a file without a name, whose descriptor only the shim gets, says the
// shell what to export as its last act before it becomes the script. Secrets wanted as files lie in memory (/dev/shm) where
// the host has such a folder. Invariant: no value is ever an argument, or in the environment of anything but the script.
import { randomBytes } from "node:crypto";
import {
  accessSync,
  chmodSync,
  constants,
  fchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { AppError, errnoOf } from "../shared/errors.ts";
import type { AttemptId } from "../shared/ids.ts";
import type { Secret } from "../shared/secret.ts";
import { exportLines } from "./user-environment.ts";
import { giveFile, type Owner } from "./owner.ts";

/** The shim reads its secrets from this descriptor. */
export const secretsDescriptor = 5;

export interface SecretPlace {
  readonly attempt: AttemptId;
  /** Of the attempt: where there is no folder in memory. */
  readonly folder: string;
  /** Default: /dev/shm, where it may be written. */
  readonly memory?: string | undefined;
  /** Who reads them, when it is not the agent's user. */
  readonly owner?: Owner | undefined;
}

export const memoryFolder = isWritable("/dev/shm") ? "/dev/shm" : undefined;

/**
 * An open descriptor for the shim, of secrets and of the variables that are to be set just before them; the caller closes it.
 */
export function placeSecrets(
  place: SecretPlace,
  secrets: readonly Secret[],
  variables: Iterable<readonly [string, string]> = [],
): number {
  const shown = secrets.map(
    ({ name, value, as }) => [name, as === "variable" ? value : placeFile(place, { name, value })] as const,
  );
  const path = join(place.memory ?? place.folder, `.holdfast-${randomBytes(16).toString("hex")}`);
  const descriptor = openSync(path, "wx+", 0o600);
  unlinkSync(path);
  // Secrets may not end in a core dump.
  if (secrets.length > 0) writeFileSync(descriptor, "ulimit -c 0\n");
  writeFileSync(descriptor, exportLines([...variables, ...shown]));
  if (place.owner !== undefined) fchownSync(descriptor, place.owner.uid, place.owner.gid);
  return descriptor;
}

/** Once the script has ended. */
export function dropSecretFiles(place: SecretPlace): void {
  rmSync(filesOf(place), { recursive: true, force: true });
}

export async function removeSecretFiles(place: SecretPlace): Promise<void> {
  await rm(filesOf(place), { recursive: true, force: true });
}

function filesOf({ attempt, folder, memory }: SecretPlace): string {
  return memory === undefined ? join(folder, "secret-files") : join(memory, `holdfast-${attempt}`);
}

function placeFile(place: SecretPlace, { name, value }: { readonly name: string; readonly value: string }): string {
  const files = filesOf(place);
  try {
    mkdirSync(files, { mode: 0o700 });
  } catch (cause) {
    // A start that is repeated finds its own; a name that somebody else took is not written into.
    if (errnoOf(cause) !== "EEXIST") throw cause;
    const { uid, mode } = lstatSync(files);
    if (!lstatSync(files).isDirectory() || uid !== process.getuid?.() || (mode & 0o066) !== 0)
      throw new AppError("internal", `${files} belongs to somebody else`);
  }
  const path = join(files, name);
  writeFileSync(path, value, { mode: 0o600 });
  if (place.owner !== undefined) {
    // The folder stays the agent's, and is passed through: who removes it must find nothing exchanged.
    chmodSync(files, 0o711);
    giveFile(path, place.owner);
  }
  return path;
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
