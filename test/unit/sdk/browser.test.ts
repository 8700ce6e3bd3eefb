// The SDK works in a browser: nothing that its entry file loads, at any depth, is Node's own.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..", "..");

/** Modules that are loaded at run time: `import type` and `export type` are erased. */
function importsOf(file: string): string[] {
  const source = readFileSync(file, "utf8");
  return [...source.matchAll(/^(?:import|export)\s+(?!type\b)[^;]*?from\s+"([^"]+)";/gms)].map(
    (match) => match[1] ?? "",
  );
}

function loaded(file: string, seen = new Map<string, readonly string[]>()): Map<string, readonly string[]> {
  if (seen.has(file)) return seen;
  const imports = importsOf(file);
  seen.set(file, imports);
  for (const path of imports.filter((one) => one.startsWith("."))) loaded(join(dirname(file), path), seen);
  return seen;
}

test("the SDK loads no node: module and no package but zod", () => {
  const graph = loaded(join(root, "sdk", "public.ts"));
  expect(graph.size).toBeGreaterThan(15);
  const packages = new Set([...graph.values()].flat().filter((path) => !path.startsWith(".")));
  expect([...packages]).toEqual(["zod"]);
});
