// Rows as the API shows them, and the sentence that says why a task waits.
import type { AgentView } from "../../shared/api/agents.ts";
import type { TaskView } from "../../shared/api/tasks.ts";
import type { AgentRow } from "../store/agents.ts";
import type { TaskRow } from "../store/read-tasks.ts";

const moment = (ms: number): string => new Date(ms).toISOString();
const momentOf = (text: string | null): string | null => (text === null ? null : new Date(text).toISOString());

/** `listed`: without what would be too much in a list. */
export function taskView(row: TaskRow, form: "whole" | "listed" = "whole"): TaskView {
  const attempts = row.attempts.map((attempt) => ({
    id: attempt.id,
    number: attempt.number,
    state: attempt.state,
    reason: attempt.reason === "" ? null : attempt.reason,
    exitCode: attempt.exitCode,
    signal: attempt.signal,
    home: attempt.home,
    offers: attempt.offers,
    createdAt: moment(Date.parse(attempt.createdAt)),
    acceptedAt: momentOf(attempt.acceptedAt),
    startedAt: momentOf(attempt.startedAt),
    finishedAt: momentOf(attempt.finishedAt),
    outBytes: attempt.outBytes,
    errBytes: attempt.errBytes,
    progress: attempt.progress === null ? null : { ...attempt.progress, at: moment(Date.parse(attempt.progress.at)) },
    ...(form === "whole" ? { outputs: outputsOf(attempt) } : {}),
    lateResults: attempt.late.map((late) => ({
      ...late,
      receivedAt: moment(Date.parse(late.receivedAt)),
      reason: late.reason === "" ? null : late.reason,
    })),
  }));
  const [latest] = attempts.slice(-1);
  const [latestRow] = row.attempts.slice(-1);
  if (latest === undefined || latestRow === undefined) throw new RangeError(`task ${row.id} has no attempt`);
  return {
    id: row.id,
    submission: row.submission,
    agent: row.agentName,
    state: latest.state,
    reason: latest.reason,
    home: latest.finishedAt === null ? latest.home : null,
    exitCode: latest.exitCode,
    signal: latest.signal,
    waiting: waitingFor(row, latest.state),
    cancelRequested: latestRow.cancelRequested,
    lane: row.lane,
    spec: { ...row.spec, secrets: row.secretNames },
    createdAt: moment(row.createdAt),
    finishedAt: latest.finishedAt,
    attempts,
  };
}

function outputsOf({ outputs }: TaskRow["attempts"][number]): Record<string, string> {
  return Object.fromEntries((outputs ?? []).map(({ name, value }) => [name, value]));
}

function waitingFor(row: TaskRow, state: TaskView["state"]): string | null {
  if (state === "accepted") return waitingForTurn(row);
  if (state !== "queued" && state !== "offered") return null;
  if (row.agentStatus !== "active") return `agent ${row.agentName} is ${row.agentStatus}`;
  if (row.nodes.length === 0) {
    return row.agentLastSeenAt === null
      ? `agent ${row.agentName} has never connected`
      : `agent ${row.agentName} is offline since ${moment(row.agentLastSeenAt)}`;
  }
  if (row.agentPaused) return `agent ${row.agentName} is paused`;
  if (row.paused) return "the cluster is paused";
  const [latest] = row.attempts.slice(-1);
  if (state === "offered" && latest !== undefined) {
    if (latest.reason !== "") return `agent ${row.agentName} cannot take it now: ${latest.reason}`;
    // The first offer is normally answered within milliseconds: nothing is worth saying about it.
    return latest.offers > 1
      ? `offered ${latest.offers} times to agent ${row.agentName}, which has not answered`
      : null;
  }
  return waitingForNode(row) ?? `agent ${row.agentName} (connected to ${namesOf(row.nodes)}) has no free slot`;
}

/** Accepted: the agent starts it by itself, once it has its lock and a slot. */
function waitingForTurn({ line, lock, agentName }: TaskRow): string | null {
  if (line === null) return null;
  const { before, long } = line;
  if (before === null) return long ? `agent ${agentName} has no free slot` : null;
  const { task, rank, since } = before;
  if (rank === 2) return `isolation lock ${lock}: task ${task} is before it on agent ${agentName}`;
  const until = since === null ? "" : ` since ${momentOf(since)}`;
  return `isolation lock ${lock} of agent ${agentName} is held by task ${task}${until}`;
}

/** Why none of the nodes that reach the agent takes it; undefined when one may. */
function waitingForNode({ agentName, nodes }: TaskRow): string | undefined {
  const staying = nodes.filter(({ draining }) => !draining);
  if (staying.length === 0) return `agent ${agentName} is connected only to ${namesOf(nodes)}, draining`;
  if (staying.some(({ active, cap }) => active < cap)) return undefined;
  const full = staying.map(({ name, active, cap }) => `${name} (${active} of ${cap})`).join(", ");
  return `every node that reaches agent ${agentName} is at its task cap: ${full}`;
}

const namesOf = (nodes: TaskRow["nodes"]): string => nodes.map(({ name }) => name).join(", ");

export function agentView(row: AgentRow): AgentView {
  const nodes = row.nodes
    .filter((node) => node.live || node.since !== null)
    .map((node) => ({
      name: node.name,
      state: node.live && node.since !== null ? ("connected" as const) : ("missing" as const),
      since: node.live ? momentOf(node.since) : null,
      roundTripMs: node.roundTripUs === null ? null : node.roundTripUs / 1_000,
      refusal: refusalOf(node),
    }));
  const connected = nodes.filter((node) => node.state === "connected").length;
  const { hostname, os, arch, executable } = row.host;
  const isKnown = typeof hostname === "string" && typeof os === "string" && typeof arch === "string";
  return {
    id: row.id,
    name: row.name,
    labels: row.labels,
    status: row.status,
    paused: row.paused,
    slots: row.slots,
    connection: connected === 0 ? "offline" : connected === nodes.length ? "fully" : "partly",
    nodes,
    version: row.version === "" ? null : row.version,
    host: isKnown ? { hostname, os, arch, ...(typeof executable === "string" ? { executable } : {}) } : null,
    createdAt: moment(row.createdAt),
    lastSeenAt: row.lastSeenAt === null ? null : moment(row.lastSeenAt),
  };
}

/** Only while it is missing, and what was refused after it was last connected. */
function refusalOf(node: AgentRow["nodes"][number]): AgentView["nodes"][number]["refusal"] {
  if (node.live && node.since !== null) return null;
  if (node.draining) return { reason: "the node drains", at: null };
  return node.refusal === null ? null : { reason: node.refusal.reason, at: momentOf(node.refusal.at) };
}
