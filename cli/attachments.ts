// `--attach local[:name]` of `holdfast run`: files that go along with the script, byte for byte.
import { basename } from "node:path";
import { attachmentLimits, attachmentNameSchema } from "../shared/attachment.ts";
import type { FileInput } from "../sdk/run-input.ts";
import { AppError } from "../shared/errors.ts";
import type { Shell } from "./shell.ts";

export async function readAttachments(
  shell: Pick<Shell, "readBytes">,
  texts: readonly string[] = [],
): Promise<FileInput[]> {
  const files: (FileInput & { readonly content: Uint8Array })[] = [];
  for (const text of texts) {
    const { path, name } = parted(text);
    if (!attachmentNameSchema.safeParse(name).success) {
      throw new AppError("config.invalid", `--attach: "${name}" is no name for a file beside the script`, {
        mend: "Give one behind a colon: letters, digits, dot, underscore and dash, without folders.",
      });
    }
    const { bytes, executable } = await shell.readBytes(path);
    files.push({ name, content: bytes, ...(executable ? { executable } : {}) });
  }
  const refuse = (why: string, mend: string): AppError => new AppError("config.invalid", `--attach: ${why}`, { mend });
  const bytes = files.reduce((sum, { content }) => sum + content.length, 0);
  if (bytes > attachmentLimits.bytes)
    throw refuse(`${bytes} bytes, at most ${attachmentLimits.bytes}`, "Let the script fetch large files by itself.");
  if (files.length > attachmentLimits.count)
    throw refuse(`${files.length} files, at most ${attachmentLimits.count}`, "Pack them into one archive.");
  if (new Set(files.map(({ name }) => name)).size < files.length)
    throw refuse("two files have the same name", "Give one of them another name behind a colon.");
  return files;
}

/** The name is behind the last colon; a path that holds one needs a name. */
function parted(text: string): { readonly path: string; readonly name: string } {
  const at = text.lastIndexOf(":");
  return at < 0 ? { path: text, name: basename(text) } : { path: text.slice(0, at), name: text.slice(at + 1) };
}
