// What must hold before an agent starts (SECURITY 4.5): on top of what is refused on both ends, an old Node, a clock that
// is wrong and options on Node's command line are refused, and variables that only may leak are warned about.
import { AppError } from "../shared/errors.ts";
import { refuseUnsafeStart } from "../shared/unsafe-start.ts";

export interface StartFacts {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly execArgv: readonly string[];
  readonly nodeVersion: string;
  readonly wallMs: number;
}

const oldestNode = [24, 12] as const;
/** No agent of this version was built before; a clock that says so would refuse every certificate. */
const builtAtMs = Date.UTC(2026, 9, 1);
const leakingVariables = ["NODE_EXTRA_CA_CERTS", "SSLKEYLOGFILE"];

/** Throws `config.invalid` for what is refused and `host.clock` for a wrong clock; answers what is only to be warned about. */
export function checkStart(facts: StartFacts): string[] {
  const { environment } = facts;
  const refuse = (message: string, mend: string): AppError => new AppError("config.invalid", message, { mend });
  refuseUnsafeStart(environment);
  refuseUnsafeCommandLine(facts.execArgv);
  const [major = 0, minor = 0] = facts.nodeVersion.replace(/^v/, "").split(".").map(Number);
  if (major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1])) {
    throw refuse(`Node ${facts.nodeVersion} is too old`, `Install Node ${oldestNode.join(".")} or later.`);
  }
  if (facts.wallMs < builtAtMs) {
    // Temporary: a machine without a battery for its clock is set by NTP after the agent has started.
    throw new AppError(
      "host.clock",
      `the system clock says ${new Date(facts.wallMs).toISOString()}, before this agent was built`,
    );
  }
  return leakingVariables
    .filter((name) => environment[name] !== undefined)
    .map((name) => `${name} is set: it can expose or widen TLS`);
}

/** The same list for Node's own arguments, which no server is started with. */
function refuseUnsafeCommandLine(execArgv: readonly string[]): void {
  try {
    refuseUnsafeStart({ NODE_OPTIONS: execArgv.filter((word) => word.startsWith("--")).join(" ") });
  } catch (cause) {
    throw new AppError("config.invalid", "the command line of Node holds an option that weakens the agent", {
      mend: "Start Node without it; the cause names it.",
      cause,
    });
  }
}
