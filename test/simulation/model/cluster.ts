// cancel-tasks.ts, abandon-task.ts, read-cancels.ts, read-work-feed.ts, sweep-attempts.ts and membership.ts on the model.
import type { AbandonedTask } from "../../../server/store/abandon-task.ts";
import type { CancelledTask } from "../../../server/store/cancel-tasks.ts";
import type { Beat, BeatAnswer, NodeRow } from "../../../server/store/membership.ts";
import type { PendingCancel } from "../../../server/store/read-cancels.ts";
import type { WorkFeed } from "../../../server/store/read-work-feed.ts";
import type { AgentId, TaskId } from "../../../shared/ids.ts";
import type { NodeList } from "../../../shared/wire/nodes.ts";
import type { ModelDatabase } from "./database.ts";
import { endRow } from "./greet.ts";
import type { AttemptRow } from "./rows.ts";
import { compare } from "./submit.ts";

const liveMs = 15_000;
/** The column's default. */
const defaultTaskCap = 1_000;
/** What a person gave up is asked for this long. */
const askedMs = 3_600_000;
const listedMs = 24 * 3_600_000;
const sweptAtOnce = 500;

export function cancelTasks(db: ModelDatabase, tasks: readonly TaskId[]): CancelledTask[] {
  return tasks.flatMap((task): CancelledTask[] => {
    const latest = latestOf(db, task);
    if (latest === undefined) return [];
    const { id: attempt, agent } = latest;
    if (latest.rank === 9) return [{ task, attempt, agent, state: latest.state, changed: false }];
    if (latest.rank === 0) {
      endRow(db, { ...latest, cancelRequested: true }, "cancelled", "before-offer");
      return [{ task, attempt, agent, state: "cancelled", changed: true }];
    }
    db.attempts.put(attempt, { ...latest, cancelRequested: true });
    return [{ task, attempt, agent, state: latest.state, changed: true }];
  });
}

/** A task given up by a person; undefined when there is none. */
export function abandonTask(db: ModelDatabase, task: TaskId): AbandonedTask | undefined {
  const latest = latestOf(db, task);
  if (latest === undefined) return undefined;
  const { id: attempt, agent, rank } = latest;
  const graceMs = db.tasks.get(task)?.graceMs ?? 0;
  const letGo = rank === 9 && latest.reason.startsWith("kill-incomplete");
  if (rank === 9) return { attempt, agent, state: latest.state, changed: false, graceMs, letGo };
  const held = { ...latest, cancelRequested: true };
  if (rank === 0) endRow(db, held, "cancelled", "before-offer");
  else endRow(db, held, "abandoned", "may-still-run");
  return { attempt, agent, state: rank === 0 ? "cancelled" : "abandoned", changed: true, graceMs, letGo };
}

export function latestOf(db: ModelDatabase, task: TaskId): AttemptRow | undefined {
  const tries = [...db.attempts.rows.values()].filter((row) => row.task === task);
  return tries.toSorted((a, b) => b.number - a.number)[0];
}

export function readCancels(db: ModelDatabase, agents: readonly AgentId[]): PendingCancel[] {
  const answered = new Set([...db.lateResults.rows.values()].map(({ attempt }) => attempt));
  const isAsked = ({ id, rank, state, finishedAtMs }: AttemptRow): boolean =>
    rank < 9 ? rank > 0 : state === "abandoned" && (finishedAtMs ?? 0) > db.nowMs - askedMs && !answered.has(id);
  return [...db.attempts.rows.values()]
    .filter((row) => agents.includes(row.agent) && row.cancelRequested && isAsked(row))
    .toSorted((a, b) => compare(a.id, b.id))
    .map((row) => ({
      attempt: row.id,
      agent: row.agent,
      graceMs: db.tasks.get(row.task)?.graceMs ?? 0,
      abandoned: row.rank === 9,
    }));
}

export function readWorkFeed(db: ModelDatabase, after: number): WorkFeed {
  const rows = [...db.attempts.rows.values()];
  const queued = rows.filter((row) => row.rank === 0 && row.queueNo > after);
  const recent = rows.filter(
    ({ rank, offerUntilMs }) =>
      rank === 1 && offerUntilMs !== null && offerUntilMs >= db.nowMs - 90_000 && offerUntilMs <= db.nowMs,
  );
  const unanswered = [...new Set(recent.map((row) => row.agent))];
  return {
    agents: [...new Set([...queued.map((row) => row.agent), ...unanswered])],
    unanswered,
    last: Math.max(after, ...queued.map((row) => row.queueNo)),
  };
}

export function readKnownWork(db: ModelDatabase, agents: readonly AgentId[]): AgentId[] {
  const rows = [...db.attempts.rows.values()];
  return agents.filter((agent) =>
    rows.some(
      ({ agent: owner, rank, cancelRequested, offerUntilMs }) =>
        owner === agent &&
        (rank === 0 ||
          (rank === 1 &&
            !cancelRequested &&
            offerUntilMs !== null &&
            (offerUntilMs < db.nowMs || offerUntilMs > db.nowMs + 30_000))),
    ),
  );
}

function byId(db: ModelDatabase): AttemptRow[] {
  return [...db.attempts.rows.values()].toSorted((a, b) => compare(a.id, b.id));
}

const isHeld = ({ rank }: AttemptRow): boolean => rank === 1 || rank === 2 || rank === 3;

/** The statements leave rows that another transaction holds: what one ended of those due, when that is known. */
export interface Ended {
  readonly only?: ReadonlySet<TaskId>;
}

const isTaken = ({ only }: Ended, { task }: AttemptRow): boolean => only?.has(task) ?? true;

export function sweepExpired(db: ModelDatabase, ended: Ended = {}): TaskId[] {
  const due = byId(db).filter((row) => row.rank === 0 && row.expiresAtMs < db.nowMs && isTaken(ended, row));
  return due.slice(0, sweptAtOnce).map((row) => {
    endRow(db, row, "expired", "queue-time-limit");
    return row.task;
  });
}

export function sweepUnreachable(db: ModelDatabase, ended: Ended = {}): TaskId[] {
  const nodes = [...db.nodes.rows.values()];
  const isLive = ({ heartbeatAtMs }: { readonly heartbeatAtMs: number }): boolean => heartbeatAtMs > db.nowMs - liveMs;
  const due = byId(db).filter((row) => {
    const limitMs = db.tasks.get(row.task)?.unreachableLimitMs ?? 0;
    const agent = db.agents.get(row.agent);
    if (!isHeld(row) || limitMs <= 0 || agent === undefined || !isTaken(ended, row)) return false;
    const present = [...db.presence.rows.values()].flatMap((presence) => {
      const node = db.nodes.get(presence.node);
      return presence.agent === row.agent && node?.bootId === presence.nodeBootId ? [node] : [];
    });
    const seenMs = Math.max(
      agent.lastSeenAtMs ?? -Infinity,
      row.createdAtMs,
      ...present.map(({ heartbeatAtMs }) => heartbeatAtMs),
    );
    if (seenMs + limitMs >= db.nowMs || present.some(isLive)) return false;
    return nodes.some((node) => isLive(node) && node.startedAtMs + Math.min(limitMs, 60_000) < db.nowMs);
  });
  return due.slice(0, sweptAtOnce).map((row) => {
    endRow(db, row, "lost", "unreachable");
    return row.task;
  });
}

export function sweepOtherJournal(db: ModelDatabase, ended: Ended = {}): TaskId[] {
  const due = byId(db).filter((row) => {
    const current = db.agents.get(row.agent)?.journalId ?? null;
    const isStranded = row.journalId !== null && current !== null && row.journalId !== current;
    return isHeld(row) && isStranded && isTaken(ended, row);
  });
  return due.slice(0, sweptAtOnce).map((row) => {
    endRow(db, row, "lost", "journal-missing");
    return row.task;
  });
}

export function joinNode(db: ModelDatabase, node: NodeRow): boolean {
  const old = db.nodes.get(node.id);
  for (const [key, presence] of db.presence.rows) {
    if (presence.node !== node.id || presence.nodeBootId === node.bootId) continue;
    const agent = db.agents.get(presence.agent);
    if (agent === undefined) continue;
    if (old !== undefined)
      db.agents.put(agent.id, { ...agent, lastSeenAtMs: Math.max(agent.lastSeenAtMs ?? -Infinity, old.heartbeatAtMs) });
    db.presence.delete(key);
  }
  const isKnown =
    old !== undefined &&
    JSON.stringify(old.addresses) === JSON.stringify(node.addresses) &&
    old.name === node.name &&
    old.heartbeatAtMs > db.nowMs - listedMs;
  const cluster = db.cluster.get("one");
  if (!isKnown && cluster !== undefined) db.cluster.put("one", { ...cluster, nodesVersion: cluster.nodesVersion + 1 });
  if (old?.status === "removed") return false;
  const { id, name, bootId, addresses } = node;
  db.nodes.put(id, {
    id,
    name,
    status: "joined",
    bootId,
    addresses,
    draining: false,
    drain: old?.drain ?? "none",
    taskCap: old?.taskCap ?? defaultTaskCap,
    active: old?.active ?? 0,
    settingsSeen: 0,
    joinedAtMs: old?.joinedAtMs ?? db.nowMs,
    startedAtMs: db.nowMs,
    heartbeatAtMs: db.nowMs,
  });
  return true;
}

export function beatNode(db: ModelDatabase, beat: Beat): BeatAnswer {
  const row = db.nodes.get(beat.id);
  const cluster = db.cluster.get("one");
  if (row === undefined || cluster === undefined) return { kind: "unlisted" };
  if (row.status === "removed") return { kind: "removed" };
  if (row.bootId !== beat.bootId) return { kind: row.heartbeatAtMs > db.nowMs - liveMs ? "replaced" : "unlisted" };
  const { active, draining, settingsSeen } = beat;
  db.nodes.put(row.id, { ...row, heartbeatAtMs: db.nowMs, active, draining, settingsSeen });
  const others = [...db.nodes.rows.values()]
    .filter((node) => node.id !== row.id && node.status === "joined" && node.heartbeatAtMs > db.nowMs - liveMs)
    .toSorted((a, b) => compare(a.id, b.id))
    .map((node) => ({ active: node.active, cap: node.taskCap, draining: node.draining || node.drain !== "none" }));
  const { paused, settingsVersion: version } = cluster;
  return { kind: "beaten", settings: { drain: row.drain, taskCap: row.taskCap, paused, version }, others };
}

export function readNodeList(db: ModelDatabase): NodeList {
  const nodes = [...db.nodes.rows.values()]
    .filter((node) => node.status === "joined" && node.heartbeatAtMs > db.nowMs - listedMs)
    .toSorted((a, b) => a.joinedAtMs - b.joinedAtMs || compare(a.id, b.id));
  return {
    version: (db.cluster.get("one")?.nodesVersion ?? 0) + db.timeline * 2 ** 32,
    want: 0,
    nodes: nodes.map(({ id, name, addresses }) => ({ id, name, addresses: [...addresses] })),
  };
}
