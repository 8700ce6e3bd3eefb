// Closes what the agent's starter left open besides the standard three. Node marks the lower ones so that no child gets them;
// a high one would reach every script, also one that runs as another user and could not open what is behind it.
// Invariant: nothing that this process opened is closed: all of that has the mark (close-on-exec).
import { closeSync, readdirSync, readFileSync } from "node:fs";

const closeOnExec = 0o2000000;

/** Gives their numbers; none where there is no /proc. */
export function closeInherited(): number[] {
  return inheritable().filter((descriptor) => {
    try {
      closeSync(descriptor);
      return true;
    } catch {
      return false;
    }
  });
}

/** Descriptors beyond the standard three that a child of this process would get. */
export function inheritable(folder = "/proc/self/fdinfo"): number[] {
  try {
    return readdirSync(folder)
      .map(Number)
      .filter((descriptor) => descriptor > 2 && !isMarked(`${folder}/${descriptor}`));
  } catch {
    return [];
  }
}

/** One that cannot be looked at is left alone: it has gone, as that of the list itself has. */
function isMarked(path: string): boolean {
  try {
    const flags = /^flags:\s+([0-7]+)$/m.exec(readFileSync(path, "utf8"))?.[1];
    return flags === undefined || (Number.parseInt(flags, 8) & closeOnExec) !== 0;
  } catch {
    return true;
  }
}
