// The package's own version, found upwards from here: the checkout has package.json one folder up, a built package two, and
// the agent's single executable carries it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { packedFile } from "./packed.ts";

const packageSchema = z.object({ name: z.literal("holdfast"), version: z.string() });

export function ownVersion(): string {
  return versionIn(packedFile("package.json")) ?? versionIn(textIn("..")) ?? versionIn(textIn("../..")) ?? "unknown";
}

function textIn(folder: string): string | undefined {
  try {
    return readFileSync(join(import.meta.dirname, folder, "package.json"), "utf8");
  } catch {
    // Not in this folder.
    return undefined;
  }
}

function versionIn(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  try {
    return packageSchema.safeParse(JSON.parse(text)).data?.version;
  } catch {
    return undefined;
  }
}
