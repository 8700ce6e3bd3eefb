// greet-agent.ts, read-open-attempts.ts, lose-attempts.ts, presence.ts and read-distrusted.ts on the model. The rule of the
// boot pair itself is the shipped one.
import { expectedBoot, judgeBoot, type Greeting, type GreetOutcome } from "../../../server/store/greet-agent.ts";
import type { LostAttempt } from "../../../server/store/lose-attempts.ts";
import type { NodePresence, PresenceChange } from "../../../server/store/presence.ts";
import type { Distrusted, SessionCredential } from "../../../server/store/read-distrusted.ts";
import type { OpenAttempt } from "../../../server/store/read-open-attempts.ts";
import type { AgentId, AttemptId, JournalId } from "../../../shared/ids.ts";
import { closeLog } from "./claim.ts";
import type { ModelDatabase } from "./database.ts";
import type { AgentRow, AttemptRow } from "./rows.ts";
import { compare } from "./submit.ts";

const cloneAfterMs = 10_000;
const retiredKept = 100;

export function greetAgent(db: ModelDatabase, greeting: Greeting): GreetOutcome {
  const row = db.agents.get(greeting.agent);
  if (row === undefined) return { kind: "removed", reason: "no such agent" };
  if (row.status !== "active") return { kind: row.status, reason: row.statusReason };
  const stored = {
    boot_counter: row.bootCounter,
    boot_id: row.bootId,
    journal_id: row.journalId,
    retired: row.retiredJournals.includes(greeting.journalId),
  };
  const judgement = judgeBoot(stored, greeting);
  if (greeting.intent === "probe" && judgement !== "superseded") return { kind: "admitted" };
  const { slots } = row;
  const admitted: GreetOutcome = typeof slots === "number" ? { kind: "admitted", slots } : { kind: "admitted" };
  switch (judgement) {
    case "same":
      return admitted;
    case "newer":
    case "new-journal": {
      const isReplaced = row.journalId !== null && row.journalId !== greeting.journalId;
      db.agents.put(row.id, {
        ...row,
        bootCounter: greeting.bootCounter,
        bootId: greeting.bootId,
        journalId: greeting.journalId,
        retiredJournals:
          isReplaced && row.journalId !== null
            ? [...row.retiredJournals, row.journalId].slice(-retiredKept)
            : row.retiredJournals,
        lastSeenAtMs: db.nowMs,
        refusedBootId: null,
        refusedAtMs: null,
      });
      if (judgement === "new-journal") loseOthers(db, row.id, greeting.journalId);
      return admitted;
    }
    case "superseded": {
      const expected = expectedBoot(greeting, stored);
      return greeting.intent === "probe" ? { kind: "superseded", expected } : refuseBoot(db, row, greeting, expected);
    }
  }
}

function refuseBoot(db: ModelDatabase, row: AgentRow, greeting: Greeting, expected: string): GreetOutcome {
  const refusedAtMs = row.refusedBootId === greeting.bootId ? row.refusedAtMs : null;
  if (refusedAtMs !== null && db.nowMs - refusedAtMs > cloneAfterMs) {
    const reason = "two processes run with this identity: boot pairs alternate";
    db.agents.put(row.id, { ...row, status: "quarantined", statusReason: reason });
    return { kind: "quarantined", reason };
  }
  if (row.refusedBootId !== greeting.bootId)
    db.agents.put(row.id, { ...row, refusedBootId: greeting.bootId, refusedAtMs: db.nowMs });
  return { kind: "superseded", expected };
}

function isOpenRank({ rank }: AttemptRow): boolean {
  return rank === 1 || rank === 2 || rank === 3;
}

function loseOthers(db: ModelDatabase, agent: AgentId, journalId: JournalId): void {
  for (const row of db.attempts.rows.values()) {
    if (row.agent !== agent || !isOpenRank(row) || row.journalId === null || row.journalId === journalId) continue;
    endRow(db, row, "lost", "journal-missing");
  }
}

export function endRow(
  db: ModelDatabase,
  row: AttemptRow,
  state: "lost" | "expired" | "cancelled" | "abandoned",
  reason: string,
): void {
  db.attempts.put(row.id, { ...row, rank: 9, state, reason, finishedAtMs: db.nowMs });
  closeLog(db, row.id);
}

export function readOpenAttempts(db: ModelDatabase, agent: AgentId, listed: readonly AttemptId[]): OpenAttempt[] {
  return [...db.attempts.rows.values()]
    .filter((row) => row.agent === agent && (isOpenRank(row) || listed.includes(row.id)))
    .toSorted((a, b) => compare(a.id, b.id))
    .map((row) => ({
      attempt: row.id,
      state: row.state,
      rank: row.rank,
      journalId: row.journalId,
      cancelRequested: row.cancelRequested,
      byAgent: row.result !== null,
      graceMs: db.tasks.get(row.task)?.graceMs ?? 0,
    }));
}

export function loseAttempts(db: ModelDatabase, items: readonly LostAttempt[]): void {
  for (const { attempt, agent, journalId, answer } of items) {
    const row = db.attempts.get(attempt);
    if (row?.agent !== agent || row.journalId !== journalId || !isOpenRank(row)) continue;
    if (answer === "unknown" && row.rank === 1) continue;
    endRow(db, row, "lost", answer === "collected" ? "result-collected" : "journal-missing");
  }
}

export function writePresence(db: ModelDatabase, changes: readonly PresenceChange[]): void {
  for (const { agent, node, nodeBootId, change } of changes) {
    if (change === "measured") continue;
    const row = db.agents.get(agent);
    if (row !== undefined) db.agents.put(agent, { ...row, lastSeenAtMs: db.nowMs });
    const key = `${agent}/${node}`;
    if (change === "connected") db.presence.put(key, { agent, node, nodeBootId, sinceMs: db.nowMs });
    else if (db.presence.get(key)?.nodeBootId === nodeBootId) db.presence.delete(key);
  }
}

export function settlePresence(db: ModelDatabase, { node, nodeBootId, agents }: NodePresence): void {
  for (const [key, row] of db.presence.rows)
    if (row.node === node && !agents.includes(row.agent)) db.presence.delete(key);
  for (const agent of agents) {
    const key = `${agent}/${node}`;
    const row = db.presence.get(key);
    if (row?.nodeBootId !== nodeBootId) db.presence.put(key, { agent, node, nodeBootId, sinceMs: db.nowMs });
  }
}

/** Certificates are outside this model: a session's is valid while its agent is. */
export function readDistrusted(db: ModelDatabase, sessions: readonly SessionCredential[]): Distrusted[] {
  return sessions.flatMap(({ agent, bootId }): Distrusted[] => {
    const row = db.agents.get(agent);
    if (row === undefined) return [];
    if (row.status !== "active") return [{ agent, status: row.status, reason: row.statusReason, bootId }];
    if (row.bootId === bootId) return [];
    return [{ agent, status: "other-boot", reason: "the cluster knows another boot of this agent", bootId }];
  });
}
