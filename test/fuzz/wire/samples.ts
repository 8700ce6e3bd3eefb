// The kept samples of the wire, as trees to make hostile frames of.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { newestProtocol, oldestProtocol } from "../../../shared/wire/version.ts";
import type { Direction } from "./oracle.ts";
import { read, type Tree } from "./tree.ts";

const root = join(import.meta.dirname, "..", "..", "surface", "wire");

export function samplesFrom(direction: Direction): readonly Tree[] {
  const versions = Array.from({ length: newestProtocol - oldestProtocol + 1 }, (_, index) => oldestProtocol + index);
  return versions.flatMap((version) =>
    readdirSync(join(root, `v${version}`))
      .filter((file) => file.startsWith(`${direction}.`) && file.endsWith(".bin"))
      .map((file) => read(readFileSync(join(root, `v${version}`, file)))),
  );
}
