// What is to be said of one agent: beforehand, whether it is to be updated at all, and by its task, what came of it. Pure.
import { executableFor, isVersionOf, type Sums } from "../../shared/api/agent-updates.ts";
import type { AgentView } from "../../shared/api/agents.ts";
import type { TaskView } from "../../shared/api/tasks.ts";

export type AgentState =
  /** It runs what is served. */
  | "current"
  /** Yet to come, in a plan or a wave. */
  | "planned"
  | "updated"
  | "failed"
  /** It cannot update itself, or may not be asked: it has to be updated otherwise. */
  | "refused"
  | "offline"
  /** Removed since the rollout began: there is nothing to update any more. */
  | "gone"
  /** The rollout stopped before it. */
  | "untouched"
  /** Left, or lost sight of, while its update was under way: it goes on. */
  | "running";

export interface AgentRow {
  readonly id: string;
  readonly name: string;
  readonly from: string | null;
  readonly to: string | null;
  readonly state: AgentState;
  readonly reason: string | null;
  readonly wave: number | null;
  readonly task: string | null;
}

export interface Selection {
  readonly sums: Sums;
  /** Whether one that is offline is waited for. */
  readonly offline: "wait" | "skip";
}

/** By the folder's name where a single executable runs, else by the version alone. */
export function versionOf({ host, version }: Pick<AgentView, "host" | "version">): string | null {
  return host?.executable ?? version;
}

/** An agent that knows updates says which executable it is; where it is none, it would refuse. */
const unmanaged =
  "it runs no executable of install.sh's, or one that takes no updates from the cluster: update it on its machine";

export function judgeAgent(agent: AgentView, { sums, offline }: Selection): AgentRow {
  const { id, name, host } = agent;
  const sum = host === null ? undefined : sums[executableFor(host)];
  const row = (state: AgentState, reason: string | null): AgentRow => ({
    id,
    name,
    from: versionOf(agent),
    to: state === "planned" && sum !== undefined ? sum.slice(0, 12) : null,
    state,
    reason,
    wave: null,
    task: null,
  });
  if (agent.status !== "active") return row("refused", `it is ${agent.status}`);
  if (host?.executable !== undefined && sum !== undefined && isVersionOf(host.executable, sum))
    return row("current", null);
  if (host === null) return row("offline", "it has never connected");
  if (host.executable === undefined) return row("refused", unmanaged);
  if (sum === undefined) return row("refused", `the node serves no ${executableFor(host)}`);
  if (agent.paused) return row("refused", "it is paused: `holdfast agents resume` first");
  if (agent.connection === "offline" && offline === "skip")
    return row("offline", agent.lastSeenAt === null ? null : `last seen ${agent.lastSeenAt}`);
  return row("planned", null);
}

type Ended = Pick<TaskView, "state" | "reason" | "exitCode">;

/** `said` is the last error of its log. */
export function judgeTask(task: Ended, said: string | undefined): Pick<AgentRow, "state" | "reason"> {
  switch (task.state) {
    case "succeeded":
      return { state: "updated", reason: null };
    case "refused":
      return { state: "refused", reason: task.reason };
    // Not begun in time: nothing was touched.
    case "expired":
      return { state: "offline", reason: "it did not begin in time" };
    default: {
      const code = task.exitCode === null ? "" : ` (exit code ${task.exitCode})`;
      return { state: "failed", reason: said === undefined ? `${task.state}: ${task.reason ?? "-"}${code}` : said };
    }
  }
}
