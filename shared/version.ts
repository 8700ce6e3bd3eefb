// The package's own version, found upwards from here: the checkout has package.json one folder up, a built package two.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

const packageSchema = z.object({ name: z.literal("holdfast"), version: z.string() });

export function ownVersion(): string {
  for (const folder of ["..", "../.."]) {
    try {
      const found = packageSchema.safeParse(
        JSON.parse(readFileSync(join(import.meta.dirname, folder, "package.json"), "utf8")),
      );
      if (found.success) return found.data.version;
    } catch {
      // Not in this folder.
    }
  }
  return "unknown";
}
