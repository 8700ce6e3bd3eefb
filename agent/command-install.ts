// Puts the commands that scripts may call into a folder for their PATH. They are POSIX sh and need no Node.
// Invariant: a command that may be running is never overwritten: a changed text gets a folder of another name.
import { chmod, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { packedFile } from "../shared/packed.ts";
import { sha256Hex } from "../shared/thumbprint.ts";
import { replaceFile } from "./durable-file.ts";

const names = ["holdfast-set", "holdfast-progress"] as const;

async function textOf(name: (typeof names)[number]): Promise<Buffer> {
  const packed = packedFile(`${name}.sh`);
  return packed === undefined ? await readFile(new URL(`${name}.sh`, import.meta.url)) : Buffer.from(packed);
}

/** Writes the commands into a folder where they are missing; gives their own. */
export async function installCommands(parent: string, readers: "owner" | "all" = "owner"): Promise<string> {
  const mode = readers === "all" ? 0o755 : 0o700;
  const texts = await Promise.all(names.map(textOf));
  const folder = join(parent, `commands-${sha256Hex(Buffer.concat(texts)).slice(0, 12)}`);
  await mkdir(folder, { recursive: true, mode });
  // Whatever umask the agent has.
  await chmod(folder, mode);
  for (const [index, name] of names.entries()) {
    const text = texts[index] ?? Buffer.alloc(0);
    const path = join(folder, name);
    const there = await readFile(path).catch(() => undefined);
    if (there?.equals(text) !== true) await replaceFile(path, text, mode);
  }
  return folder;
}
