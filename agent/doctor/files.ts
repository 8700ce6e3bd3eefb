// Doctor's checks of what lies on the disk before any of it is believed: the folder, who may read it, and the settings.
// Reads only.
import { constants } from "node:fs";
import { access, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { AppError, describeError, errnoOf } from "../../shared/errors.ts";
import { nodeListSchema } from "../../shared/wire/nodes.ts";
import { readAgentConfig } from "../config.ts";
import { loadReach } from "../reach.ts";
import { checkStart } from "../start-checks.ts";
import type { StartFacts } from "../start-checks.ts";
import type { CheckRow } from "./check-row.ts";
import { failed, passed, warned } from "./check-row.ts";

/** What `agent run` would refuse to start with, or warn about, in the environment doctor itself was started in. */
export function checkEnvironment(facts: StartFacts): CheckRow {
  try {
    const warnings = checkStart(facts);
    if (warnings.length === 0)
      return passed("environment", { seen: `Node ${facts.nodeVersion}, nothing unsafe is set` });
    return warned("environment", { seen: warnings.join("; "), mend: "Start the agent without these variables." });
  } catch (cause) {
    const { message, mend } = AppError.from(cause);
    return failed("environment", { seen: message, mend });
  }
}

/** Options from flag and environment, and the files that only holdfast writes. */
export async function checkConfiguration(
  dataPath: string,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<CheckRow> {
  try {
    const { slots } = readAgentConfig({ dataPath }, environment);
    const { only } = await loadReach(dataPath);
    const keeps = only === undefined ? "connects to every node" : `keeps to ${only.nodes.length} chosen nodes`;
    const listPath = join(dataPath, "nodes.json");
    const problem = await nodeListProblem(listPath);
    if (problem !== undefined) {
      const seen = `${listPath}: ${problem}; the agent goes by its seeds instead`;
      return warned("configuration", {
        seen,
        mend: `Remove ${listPath}: the next node to answer sends the list anew.`,
      });
    }
    return passed("configuration", { seen: `${slots} slots; ${keeps}`, detail: { slots, only: only ?? null } });
  } catch (cause) {
    const { message, mend } = asReadable(cause);
    return failed("configuration", { seen: message, mend });
  }
}

async function nodeListProblem(path: string): Promise<string | undefined> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    if (errnoOf(cause) === "ENOENT") return undefined;
    throw cause;
  });
  if (text === undefined) return undefined;
  try {
    nodeListSchema.parse(JSON.parse(text));
    return undefined;
  } catch (cause) {
    return `no list of nodes (${describeError(cause).replaceAll(/\s+/g, " ").slice(0, 120)})`;
  }
}

export async function checkDataDirectory(dataPath: string): Promise<CheckRow> {
  const check = "data-directory";
  try {
    const { uid, mode } = await stat(dataPath);
    await access(dataPath, constants.R_OK | constants.X_OK);
    return passed(check, { seen: dataPath, detail: { uid, mode: octal(mode) } });
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") {
      const mend = "Give the --data-dir the agent was registered with, or run `holdfast agent register` with this one.";
      return failed(check, { seen: `${dataPath} does not exist`, mend });
    }
    const { message, mend } = asReadable(cause);
    return failed(check, { seen: message, mend });
  }
}

/** One row per file that holds a secret or the agent's memory; a file that is not there is another check's. */
export async function checkRights(dataPath: string): Promise<CheckRow[]> {
  const folder = await checkRight(dataPath, { subject: "data directory", mode: 0o700, owner: undefined });
  const owner = await stat(dataPath).then(
    ({ uid }) => uid,
    () => undefined,
  );
  const files = await Promise.all(
    ["key.pem", "journal", "identity.json"].map((name) =>
      checkRight(join(dataPath, name), { subject: name, mode: 0o600, owner }),
    ),
  );
  return [folder, ...files].flatMap((row) => row ?? []);
}

async function checkRight(
  path: string,
  {
    subject,
    mode: wanted,
    owner,
  }: { readonly subject: string; readonly mode: number; readonly owner: number | undefined },
): Promise<CheckRow | undefined> {
  try {
    const { mode, uid } = await stat(path);
    const detail = { path, mode: octal(mode), uid };
    if ((mode & 0o077) !== 0) {
      const seen = `${path} has mode ${octal(mode)}: others than its owner may use it`;
      return failed("rights", { subject, seen, mend: `chmod ${wanted.toString(8)} ${path}`, detail });
    }
    await access(path, constants.R_OK);
    if (owner !== undefined && uid !== owner) {
      const seen = `${path} belongs to user ${uid}, its folder to user ${owner}`;
      return warned("rights", { subject, seen, mend: `chown ${owner} ${path}`, detail });
    }
    return passed("rights", { subject, seen: `mode ${octal(mode)}, user ${uid}`, detail });
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return undefined;
    const { message, mend } = asReadable(cause);
    return failed("rights", { subject, seen: message, mend });
  }
}

/** What may not be read is no fault of the agent: it says who asked, and as whom to ask. */
export function asReadable(cause: unknown): AppError {
  const inner = cause instanceof AppError ? cause.cause : cause;
  if (errnoOf(inner) !== "EACCES" && errnoOf(inner) !== "EPERM") return AppError.from(cause);
  const user = process.getuid?.() ?? "unknown";
  return new AppError("file.unreadable", `user ${user} may not read it: ${describeError(inner)}`, {
    mend: "Run doctor as the user of the agent, or as root.",
    cause,
  });
}

const octal = (mode: number): string => (mode & 0o777).toString(8).padStart(3, "0");
