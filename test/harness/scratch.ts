// Where tests put what is synced often and dropped soon: in memory when the machine has room, else where temporary files go.
import { statfsSync } from "node:fs";
import { tmpdir } from "node:os";

const memory = "/dev/shm";
/** Several PostgreSQL clusters of 40 MB with their logs; containers often get 64 MiB here. */
const roomBytes = 2 * 1024 ** 3;

/** May be mounted noexec: no programs here. */
export function scratchParent(): string {
  try {
    const { bavail, bsize } = statfsSync(memory);
    return bavail * bsize >= roomBytes ? memory : tmpdir();
  } catch {
    return tmpdir();
  }
}
