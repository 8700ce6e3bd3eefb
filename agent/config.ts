// The agent's options: one row each, with flag, environment variable, default and range. Flag > environment > default.
import { z } from "zod";
import { AppError } from "../shared/errors.ts";

export interface AgentOptionRow {
  readonly flag: string;
  readonly variable: string;
  readonly about: string;
}

export const agentOptionRows = {
  dataPath: { flag: "--data-dir", variable: "HOLDFAST_DATA_DIR", about: "folder of identity, journal and attempts" },
  slots: { flag: "--slots", variable: "HOLDFAST_SLOTS", about: "scripts that run at once, 1 to 64" },
  logLevel: { flag: "--log-level", variable: "HOLDFAST_LOG_LEVEL", about: "trace, debug, info, warn, error or silent" },
} as const satisfies Record<string, AgentOptionRow>;

const configSchema = z.object({
  dataPath: z.string().min(1),
  slots: z.coerce.number().int().min(1).max(64).default(10),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
});
export type AgentConfig = z.infer<typeof configSchema>;

/** Root's place by convention, or the user's XDG state folder. */
export function defaultDataPath(
  environment: Readonly<Record<string, string | undefined>>,
  userId: number | undefined,
): string {
  if (userId === 0) return "/var/lib/holdfast/agent";
  const home = environment["HOME"] ?? "/tmp";
  return `${environment["XDG_STATE_HOME"] ?? `${home}/.local/state`}/holdfast/agent`;
}

/** Throws `config.invalid`, naming option, seen value and range. */
export function readAgentConfig(
  flags: Readonly<Partial<Record<keyof AgentConfig, string | number | undefined>>>,
  environment: Readonly<Record<string, string | undefined>>,
  userId: number | undefined = process.getuid?.(),
): AgentConfig {
  const merged = {
    dataPath: flags.dataPath ?? environment[agentOptionRows.dataPath.variable] ?? defaultDataPath(environment, userId),
    slots: flags.slots ?? environment[agentOptionRows.slots.variable],
    logLevel: flags.logLevel ?? environment[agentOptionRows.logLevel.variable],
  };
  const parsed = configSchema.safeParse(merged);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const name = issue?.path[0];
  const row = Object.entries(agentOptionRows).find(([option]) => option === name)?.[1];
  throw new AppError(
    "config.invalid",
    `${row?.flag ?? "configuration"} (${row?.variable ?? ""}): ${issue?.message ?? "invalid"}`,
  );
}
