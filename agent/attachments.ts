// Lays the files that came with a script into its work folder. Invariant: each is there whole or not at all, and one that
// is there is left alone: an older shim's script may be using it.
import { linkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Attachment } from "../shared/attachment.ts";
import { errnoOf } from "../shared/errors.ts";
import { giveFile, type Owner } from "./owner.ts";

/** Both folders are the attempt's own and on one file system; only `work` may be another's already. */
export function placeAttachments(
  folders: { readonly attempt: string; readonly work: string; readonly owner?: Owner | undefined },
  files: readonly Attachment[],
): void {
  const draft = join(folders.attempt, "attachment.new");
  for (const { name, base64, executable = false } of files) {
    rmSync(draft, { force: true });
    writeFileSync(draft, Buffer.from(base64, "base64"), { mode: executable ? 0o700 : 0o600, flag: "wx" });
    // While it lies where nobody else can exchange it.
    if (folders.owner !== undefined) giveFile(draft, folders.owner);
    try {
      linkSync(draft, join(folders.work, name));
    } catch (cause) {
      if (errnoOf(cause) !== "EEXIST") throw cause;
    }
  }
  rmSync(draft, { force: true });
}
