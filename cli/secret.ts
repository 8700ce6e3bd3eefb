// Secrets by indirection, so that they need not stand in a process listing: `file://PATH`, `env://NAME`, `fd://N`, or as they are.
import { AppError } from "../shared/errors.ts";
import type { Shell } from "./shell.ts";

export async function resolveSecret(shell: Shell, text: string): Promise<string> {
  const [, scheme, rest = ""] = /^(file|env|fd):\/\/(.+)$/.exec(text) ?? [];
  switch (scheme) {
    case "file":
      return (await shell.readFile(rest)).trim();
    case "env": {
      const value = shell.environment[rest];
      if (value === undefined || value === "")
        throw new AppError("config.invalid", `the environment variable ${rest} is not set`);
      return value.trim();
    }
    case "fd":
      if (!/^\d+$/.test(rest))
        throw new AppError("config.invalid", `"fd://${rest}" does not name a descriptor by its number`);
      return (await shell.readDescriptor(Number(rest))).trim();
    default:
      return text;
  }
}
