// Puts one mistake into the shipped code while it is loaded, from outside: a load hook that rewrites one place of one file.
// Invariant: a place that is no longer found, or is found twice, is an error, never a bug that silently is not there.
import { registerHooks } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

export interface PlantedBug {
  readonly name: string;
  /** What is wrong with it, in words. */
  readonly about: string;
  /** From the root of the repository. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /**
   * Where the test begins to look, shortly before the first seed that finds it: what it asks is whether the bug is found still.
   * How many seeds that takes from the first is the score's to say.
   */
  readonly from?: number;
  /** Seeds within which the simulator has to find it: about three times what it took. */
  readonly within: number;
}

const root = resolve(import.meta.dirname, "../../..");

export function rewrite(bug: Omit<PlantedBug, "within">, source: string): string {
  const parts = source.split(bug.find);
  if (parts.length !== 2)
    throw new Error(`planted bug "${bug.name}": its place is found ${parts.length - 1} times in ${bug.file}`);
  return parts.join(bug.replace);
}

/** From now on modules of this thread are loaded with the bug in them. Answers whether the file was loaded. */
export function plant(bug: Omit<PlantedBug, "within">): () => boolean {
  const url = pathToFileURL(resolve(root, bug.file)).href;
  let isLoaded = false;
  registerHooks({
    load(at, context, nextLoad) {
      const loaded = nextLoad(at, context);
      if (at !== url || loaded.source === undefined || loaded.source === null) return loaded;
      isLoaded = true;
      const source =
        typeof loaded.source === "string" ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString("utf8");
      return { ...loaded, source: rewrite(bug, source) };
    },
  });
  return () => isLoaded;
}
