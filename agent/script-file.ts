// Reads the start of a file that a script made. Never waits and never follows a link: the file is the script's to make, of
// any kind.
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

/** At most `most` bytes; undefined when it is no plain file. Throws what the system says, such as ENOENT. */
export function readStart(path: string, most: number): Buffer | undefined {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const found = fstatSync(descriptor);
    if (!found.isFile()) return undefined;
    const buffer = Buffer.allocUnsafe(Math.min(found.size, most));
    let length = 0;
    while (length < buffer.length) {
      const got = readSync(descriptor, buffer, length, buffer.length - length, null);
      if (got === 0) break;
      length += got;
    }
    return buffer.subarray(0, length);
  } finally {
    closeSync(descriptor);
  }
}
