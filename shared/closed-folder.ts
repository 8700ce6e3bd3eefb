// Folders of the product: closed to others, under folders that others may pass through, for another user's may lie beside.
import { mkdirSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";

const closed = { recursive: true, mode: 0o700 } as const;
const passable = { recursive: true, mode: 0o755 } as const;

/** Makes it and what is missing above it; leaves alone what is there. Throws as `mkdir` does. */
export async function makeClosedFolder(path: string): Promise<void> {
  await mkdir(dirname(path), passable);
  await mkdir(path, closed);
}

export function makeClosedFolderSync(path: string): void {
  mkdirSync(dirname(path), passable);
  mkdirSync(path, closed);
}
