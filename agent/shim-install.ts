// Puts the shim's text where scripts are started with it, and finds what this host's `env` can do for it.
// Invariant: a shim that runs is never overwritten: a changed text gets a new name.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { packedFile } from "../shared/packed.ts";
import { sha256Hex } from "../shared/thumbprint.ts";
import { replaceFile } from "./durable-file.ts";

/** Writes the shim into the data directory when it is not there; gives its path. */
export async function installShim(dataPath: string): Promise<string> {
  const text = packedFile("shim.sh") ?? (await readFile(new URL("shim.sh", import.meta.url)));
  const path = join(dataPath, `shim-${sha256Hex(text).slice(0, 12)}.sh`);
  if (!existsSync(path)) await replaceFile(path, text);
  return path;
}

/**
 * A shell gives its background children INT and QUIT ignored. GNU env (coreutils 8.31 and later) undoes that for 0.6 ms;
 * where it cannot, scripts run with both ignored.
 */
export function findSignalReset(): Promise<string> {
  const program = ["/usr/bin/env", "/bin/env"].find(existsSync);
  if (program === undefined) return Promise.resolve("");
  return new Promise((resolve) => {
    const child = spawn(program, ["--default-signal=INT,QUIT", "true"], { stdio: "ignore" });
    child.on("error", () => resolve(""));
    child.on("exit", (code) => resolve(code === 0 ? `${program} --default-signal=INT,QUIT` : ""));
  });
}
