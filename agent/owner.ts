// Whose a file is to be, when it is not the agent's user's.
import { lchownSync } from "node:fs";

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Only in a folder where nobody else can exchange the file; a link itself changes hands, not what it names. */
export function giveFile(path: string, { uid, gid }: Owner): void {
  lchownSync(path, uid, gid);
}
