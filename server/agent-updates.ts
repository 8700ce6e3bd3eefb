// Asks agents to update themselves: one submission of update tasks in the lane `system`. The sum in each task is this node's
// own word, never only the caller's; the submission's own statement audits it as an act on agents as well.
// Invariant: nothing is stored unless every agent's platform is served, with the sum that the caller saw; and a key that was
// stored is answered with what it stored, whatever this node serves by now and whoever is gone.
import { executableFor, readSums, type AgentUpdateRequest, type Sums } from "../shared/api/agent-updates.ts";
import type { SubmitAnswer } from "../shared/api/submissions.ts";
import { AppError } from "../shared/errors.ts";
import type { AgentId } from "../shared/ids.ts";
import { limits, updateSpecSchema, type TaskSpec } from "../shared/task.ts";
import type { Principal, Submit } from "./api/backend.ts";
import type { Downloads } from "./api/download-routes.ts";
import { listAgents } from "./store/agents.ts";
import type { Sql } from "./store/connection.ts";
import type { TargetSource } from "./tasks/submit.ts";

export interface AgentUpdateDeps {
  readonly sql: Sql;
  readonly targets: Pick<TargetSource, "named">;
  readonly downloads: Pick<Downloads, "list">;
  readonly submit: (submit: Submit, principal: Principal) => Promise<SubmitAnswer>;
  /** What this key of the principal's stored. */
  readonly earlier: (
    request: Pick<Submit, "key" | "digest">,
    principal: Principal,
  ) => Promise<SubmitAnswer | undefined>;
}

/** An update of an agent that is gone has nobody to end it; it is not waited for as long as a script is. */
const unreachableLimitMs = 600_000;
const queueMs = 60_000;
/** Beyond two trials, for one that is cancelled. */
const slackMs = 60_000;

export interface AskedUpdates {
  readonly key: string;
  /** As of a submission. */
  readonly digest: string;
  readonly request: AgentUpdateRequest;
}

export async function updateAgents(
  deps: AgentUpdateDeps,
  { key, digest, request }: AskedUpdates,
  principal: Principal,
): Promise<SubmitAnswer> {
  const { queueTimeoutMs = queueMs } = request;
  let items: readonly { readonly on: AgentId; readonly spec: UpdateSpec }[];
  try {
    items = await plan(deps, request);
  } catch (cause) {
    // Asked only then, as submit does: after the look, for another request with the key may be stored meanwhile.
    const stored = await deps.earlier({ key, digest }, principal);
    if (stored === undefined) throw cause;
    return stored;
  }
  return deps.submit(
    {
      key,
      digest,
      work: { items },
      queueTimeoutMs,
      unreachableLimitMs,
      lane: "system",
      priority: undefined,
      ifOffline: undefined,
    },
    principal,
  );
}

async function plan(
  deps: Pick<AgentUpdateDeps, "sql" | "targets" | "downloads">,
  request: AgentUpdateRequest,
): Promise<{ readonly on: AgentId; readonly spec: UpdateSpec }[]> {
  const served = readSums((await deps.downloads.list())?.text ?? "");
  const agents = await named(deps, request.agents);
  return agents.map(({ id, name, host }) => ({ on: id, spec: specFor(request, { name, host, served }) }));
}

interface Named {
  readonly id: AgentId;
  readonly name: string;
  readonly host: Readonly<Record<string, unknown>>;
}

async function named(
  { sql, targets }: Pick<AgentUpdateDeps, "sql" | "targets">,
  names: readonly string[],
): Promise<Named[]> {
  const found = await targets.named([...new Set(names)]);
  const missing = names.find((name) => !found.some((one) => one.name === name || one.id === name));
  if (missing !== undefined) throw new AppError("agent.unknown", `no active agent is called ${missing}`);
  const ids = [...new Set(found.map(({ id }) => id))];
  return listAgents(sql, { limit: ids.length, before: null, ids });
}

type UpdateSpec = Extract<TaskSpec, { readonly kind: "update" }>;

function specFor(
  { sums, servers, greetMs }: AgentUpdateRequest,
  agent: Pick<Named, "name" | "host"> & { readonly served: Sums },
): UpdateSpec {
  const { os, arch } = agent.host;
  if (typeof os !== "string" || typeof arch !== "string")
    throw new AppError("request.invalid", `agent ${agent.name} has never connected: its platform is not known`);
  const file = executableFor({ os, arch });
  const [wanted, sha256] = [sums[file], agent.served[file]];
  if (sha256 === undefined || sha256 !== wanted) {
    const what = sha256 === undefined ? `no ${file}` : `${file} with SHA-256 ${sha256}, not ${wanted ?? "unnamed"}`;
    throw new AppError("download.unknown", `for agent ${agent.name} this node serves ${what}; nothing was stored`, {
      mend: "Have every node serve the same executables (`holdfast server start --agent-executables`), then ask again.",
    });
  }
  const spec = updateSpecSchema.parse({ kind: "update", sha256, servers, greetMs });
  return { ...spec, graceMs: Math.min(limits.graceMs, 2 * spec.greetMs + slackMs) };
}
