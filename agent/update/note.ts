// The note that an update leaves beside the versions while it is under way: from which version to which. Whoever finds it with
// nobody at work knows that the switch was cut off. Invariant: a note about a version that is gone counts as none.
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { replaceFile } from "../durable-file.ts";
import { versionProgram } from "../executable-folder.ts";

const noteSchema = z.object({ from: z.string(), to: z.string() });
/** Versions by the names of their folders; `from` is one that worked. */
export type UpdateNote = Readonly<z.infer<typeof noteSchema>>;

const pathIn = (folder: string): string => join(folder, "update.json");

/** Held by whoever is at work. */
export const lockPathIn = (folder: string): string => join(folder, "update.lock");

export async function readNote(folder: string): Promise<UpdateNote | undefined> {
  try {
    const note = noteSchema.parse(JSON.parse(await readFile(pathIn(folder), "utf8")));
    const from = basename(note.from);
    return existsSync(versionProgram(folder, from)) ? { from, to: basename(note.to) } : undefined;
  } catch {
    return undefined;
  }
}

export function hasNote(folder: string): boolean {
  return existsSync(pathIn(folder));
}

export function writeNote(folder: string, { from, to }: UpdateNote): Promise<void> {
  return replaceFile(pathIn(folder), `${JSON.stringify({ from, to })}\n`);
}

export function dropNote(folder: string): Promise<void> {
  return rm(pathIn(folder), { force: true });
}
