// Where a part keeps its state when nothing is said: /var/lib/holdfast for root, else the XDG state folder.
import { join } from "node:path";
import type { Shell } from "./shell.ts";

export function stateDirectory(shell: Shell, part: "agent" | "server"): string {
  if (shell.root) return join("/var/lib/holdfast", part);
  const folder = shell.environment["XDG_STATE_HOME"] || join(shell.homeDirectory, ".local", "state");
  return join(folder, "holdfast", part);
}
