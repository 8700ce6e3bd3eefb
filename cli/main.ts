// The whole command line. The agent's single executable has a tree of its own (agent-executable.ts).
import { createProgram } from "./program.ts";
import { runWords } from "./run-words.ts";
import type { Shell } from "./shell.ts";

/** `words` without the executable's own: `["tasks", "list"]`. */
export function main(words: readonly string[], shell: Shell): Promise<number> {
  return runWords(words, shell, createProgram);
}
