// Files that travel inside the agent's single executable; a checkout and the package have them beside the code instead.
import { getAsset, isSea } from "node:sea";

/** What scripts/build-agent.ts packs. */
export type PackedName = "package.json" | "build.json" | "shim.sh" | "holdfast-set.sh" | "holdfast-progress.sh";

/** Whether this process is the agent's single executable. */
export const isPacked = isSea;

/** Undefined outside the executable, and inside for a file that the build had not. */
export function packedFile(name: PackedName): string | undefined {
  if (!isSea()) return undefined;
  try {
    return getAsset(name, "utf8");
  } catch {
    return undefined;
  }
}
