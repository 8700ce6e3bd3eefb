// The client a command talks through: flag, then environment, then the saved login, then the local default.
import { AppError } from "../shared/errors.ts";
import { Holdfast } from "../sdk/holdfast.ts";
import { readLogin } from "./login-file.ts";
import { note } from "./output.ts";
import { resolveSecret } from "./secret.ts";
import type { Shell } from "./shell.ts";

export interface ClientOptions {
  readonly url?: string | undefined;
  readonly apiKey?: string | undefined;
}

export const defaultUrl = "http://127.0.0.1:8080";
/** Long enough for a node's restart behind a load balancer, short enough for a wrong URL. */
const retryForMs = 10_000;

/** Where {@link openClient} leads, without the need of a key. */
export async function clientUrl(shell: Shell, { url }: ClientOptions): Promise<string> {
  return url ?? (await readLogin(shell))?.url ?? defaultUrl;
}

export async function openClient(shell: Shell, options: ClientOptions): Promise<Holdfast> {
  const login = options.url === undefined || options.apiKey === undefined ? await readLogin(shell) : undefined;
  const url = options.url ?? login?.url ?? defaultUrl;
  // A saved key belongs to the saved server: it is not sent to another one.
  const saved = login !== undefined && sameServer(login.url, url) ? login.apiKey : undefined;
  const apiKey = options.apiKey === undefined ? saved : await resolveSecret(shell, options.apiKey);
  if (apiKey === undefined) {
    throw new AppError("auth.missing", `there is no API key for ${url}`, {
      mend: "Set HOLDFAST_API_KEY, give --api-key, or run `holdfast login`. The first key is in the server's data directory: file://DIR/admin-api-key.",
    });
  }
  let noted = false;
  return new Holdfast({
    url,
    apiKey,
    retryForMs,
    onRetry: (error) => {
      if (noted) return;
      noted = true;
      void note(shell, `${error.message}; trying again for ${retryForMs / 1_000} s`);
    },
  });
}

function sameServer(one: string, other: string): boolean {
  return URL.canParse(one) && URL.canParse(other) && new URL(one).origin === new URL(other).origin;
}
