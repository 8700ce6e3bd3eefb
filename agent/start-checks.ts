// What must hold before an agent starts (SECURITY 4.5): settings that would weaken TLS are refused or warned about.
import { AppError } from "../shared/errors.ts";

export interface StartFacts {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly execArgv: readonly string[];
  readonly nodeVersion: string;
  readonly wallMs: number;
}

const oldestNode = [24, 12] as const;
/** No agent of this version was built before; a clock that says so would refuse every certificate. */
const builtAtMs = Date.UTC(2026, 9, 1);
const forbiddenFlags = ["--inspect", "--tls-min-v1.0", "--tls-min-v1.1", "--tls-cipher-list", "--insecure-http-parser"];
const leakingVariables = ["NODE_EXTRA_CA_CERTS", "SSLKEYLOGFILE"];

/** Throws `config.invalid` for what is refused; answers what is only to be warned about. */
export function checkStart(facts: StartFacts): string[] {
  const { environment } = facts;
  const refuse = (message: string, mend: string): AppError => new AppError("config.invalid", message, { mend });
  if (environment["NODE_TLS_REJECT_UNAUTHORIZED"] === "0") {
    throw refuse("NODE_TLS_REJECT_UNAUTHORIZED=0 turns certificate checks off", "Unset NODE_TLS_REJECT_UNAUTHORIZED.");
  }
  const flags = [...facts.execArgv, ...(environment["NODE_OPTIONS"] ?? "").split(/\s+/)];
  const forbidden = flags.find((flag) => forbiddenFlags.some((start) => flag.startsWith(start)));
  if (forbidden !== undefined)
    throw refuse(`the Node option ${forbidden} weakens the agent`, "Remove it from NODE_OPTIONS and the command line.");
  const [major = 0, minor = 0] = facts.nodeVersion.replace(/^v/, "").split(".").map(Number);
  if (major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1])) {
    throw refuse(`Node ${facts.nodeVersion} is too old`, `Install Node ${oldestNode.join(".")} or later.`);
  }
  if (facts.wallMs < builtAtMs) {
    throw refuse(
      `the system clock says ${new Date(facts.wallMs).toISOString()}, before this agent was built`,
      "Set the clock.",
    );
  }
  const warnings = leakingVariables
    .filter((name) => environment[name] !== undefined)
    .map((name) => `${name} is set: it can expose or widen TLS`);
  if (flags.some((flag) => flag.startsWith("--tls-keylog"))) warnings.push("--tls-keylog writes TLS secrets to a file");
  return warnings;
}
