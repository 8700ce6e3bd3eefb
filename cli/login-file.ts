// Where `holdfast login` keeps the URL and the key: one JSON file under the XDG configuration folder, mode 0600.
import { join } from "node:path";
import { z } from "zod";
import { AppError } from "../shared/errors.ts";
import type { Shell } from "./shell.ts";

const loginSchema = z.object({ url: z.string(), apiKey: z.string() });
export type Login = z.infer<typeof loginSchema>;

export function loginPath(shell: Shell): string {
  const folder = shell.environment["XDG_CONFIG_HOME"] || join(shell.homeDirectory, ".config");
  return join(folder, "holdfast", "login.json");
}

/** Undefined when there is none; throws when there is one that cannot be used. */
export async function readLogin(shell: Shell): Promise<Login | undefined> {
  const path = loginPath(shell);
  let text: string;
  try {
    text = await shell.readFile(path);
  } catch {
    return undefined;
  }
  const login = loginSchema.safeParse(parseJson(text));
  if (!login.success)
    throw new AppError("config.invalid", `the login file ${path} cannot be read`, {
      mend: "Run `holdfast login` again.",
    });
  return login.data;
}

export async function writeLogin(shell: Shell, login: Login): Promise<string> {
  const path = loginPath(shell);
  await shell.writeSecretFile(path, `${JSON.stringify(login, null, 2)}\n`);
  return path;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
