// The line under a listing that has a following page.
import type { Page } from "../shared/api/page.ts";
import type { Shell } from "./shell.ts";
import { note } from "./output.ts";

export async function printMore(shell: Shell, page: Page<unknown>): Promise<void> {
  if (page.next !== null) await note(shell, `there are more: --cursor ${page.next}`);
}
