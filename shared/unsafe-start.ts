// Environments in which neither agent nor server starts, because they would weaken TLS behind our back (SECURITY 4.5).
import { AppError } from "./errors.ts";

const weakening =
  /--(?:inspect|tls-min-v1\.[012]|tls-max-v1\.[012]|tls-cipher-list|tls-keylog|use-openssl-ca|openssl-legacy-provider|insecure-http-parser)/;

/** Throws `config.invalid` naming the variable to unset. */
export function refuseUnsafeStart(environment: Readonly<Record<string, string | undefined>>): void {
  if (environment["NODE_TLS_REJECT_UNAUTHORIZED"] === "0") {
    throw new AppError("config.invalid", "NODE_TLS_REJECT_UNAUTHORIZED=0 is set: certificates would not be checked", {
      mend: "Unset NODE_TLS_REJECT_UNAUTHORIZED.",
    });
  }
  const found = weakening.exec(environment["NODE_OPTIONS"] ?? "");
  if (found !== null)
    throw new AppError("config.invalid", `NODE_OPTIONS contains ${found[0]}`, { mend: "Remove it from NODE_OPTIONS." });
}
