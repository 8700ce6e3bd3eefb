// Replaces a small file as a whole: written beside, synced, renamed, directory synced. A reader sees the old or the new one.
import { open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { syncDirectory } from "./journal-disk.ts";

export async function replaceFile(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const next = `${path}.new`;
  const handle = await open(next, "w", mode);
  try {
    // The mode of open() counts only for a new file; a left-over one may have another.
    await handle.chmod(mode);
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(next, path);
  await syncDirectory(dirname(path));
}
