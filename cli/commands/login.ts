// `holdfast login`: save URL and key, after the server has taken the key.
import type { Command } from "commander";
import { Holdfast } from "../../sdk/holdfast.ts";
import { AppError } from "../../shared/errors.ts";
import type { ClientOptions } from "../client.ts";
import { command, type CommandContext } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { writeLogin } from "../login-file.ts";
import { urlOptions } from "../option.ts";
import { note } from "../output.ts";
import { resolveSecret } from "../secret.ts";

export function loginCommand({ shell, finish }: CommandContext): Command {
  return command("login", {
    summary: "save a server's URL and an API key for later commands (mode 0600)",
    options: urlOptions(),
    examples: [
      [
        "holdfast login --url http://127.0.0.1:8080 --api-key file://data/admin-api-key",
        "the first key of a new server",
      ],
      ["holdfast login --url https://holdfast.example.com --api-key env://KEY", "not in the process listing"],
    ],
  }).action(async (flags: ClientOptions) => {
    if (flags.url === undefined || flags.apiKey === undefined) {
      throw new AppError("config.invalid", "login needs --url and --api-key", {
        mend: "Give both; the key may be file://PATH, env://NAME or fd://N.",
      });
    }
    const apiKey = await resolveSecret(shell, flags.apiKey);
    await checkKey(new Holdfast({ url: flags.url, apiKey, retryForMs: 0 }));
    await note(shell, `saved in ${await writeLogin(shell, { url: flags.url, apiKey })}`);
    finish(exitCodes.done);
  });
}

/** A key without the permission to list tasks is still a valid key. */
async function checkKey(client: Holdfast): Promise<void> {
  try {
    await client.tasks.list({ limit: 1 });
  } catch (cause) {
    if (AppError.from(cause).code !== "auth.forbidden") throw cause;
  }
}
