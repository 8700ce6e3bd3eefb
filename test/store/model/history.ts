// What a history has made so far, beside the rows: the ids it uses and what was sent before, so that it can be sent again.
// All ids are derived from small numbers, and sort in another order than they were made in.
import {
  agentIdSchema,
  attemptIdSchema,
  bootIdSchema,
  journalIdSchema,
  nodeIdSchema,
  submissionIdSchema,
  taskIdSchema,
  type AgentId,
  type AttemptId,
  type BootId,
  type JournalId,
  type NodeId,
} from "../../../shared/ids.ts";
import type { Finish } from "../../../server/store/finish-attempts.ts";
import type { NewSubmission } from "../../../server/store/submit-tasks.ts";
import type { ModelDatabase } from "../../simulation/model/database.ts";
import type { AttemptRow } from "../../simulation/model/rows.ts";
import type { Dice } from "./dice.ts";

function idOf(kind: number, number: number): string {
  const mixed = (Math.imul(number + 1, 0x9e37_79b1) ^ Math.imul(kind, 0x85eb_ca6b)) >>> 0;
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
  return `${hex(mixed, 8)}-${hex(kind, 4)}-7000-8000-${hex(number, 12)}`;
}

export const agentId = (number: number): AgentId => agentIdSchema.parse(idOf(1, number));
export const nodeId = (number: number): NodeId => nodeIdSchema.parse(idOf(2, number));
export const journalId = (number: number): JournalId => journalIdSchema.parse(idOf(3, number));
export const bootId = (number: number): BootId => bootIdSchema.parse(idOf(4, number));

export const agentCount = 5;
export const nodeCount = 3;
const journalsEach = 3;
const bootsEach = 6;

export interface Owner {
  readonly agent: AgentId;
  readonly journalId: JournalId;
}

export class History {
  db: ModelDatabase;
  readonly submissions: NewSubmission[] = [];
  readonly finishes: Finish[] = [];
  #made = 0;

  constructor(db: ModelDatabase) {
    this.db = db;
  }

  newSubmissionId() {
    return submissionIdSchema.parse(idOf(5, this.#next()));
  }

  newTaskIds() {
    const number = this.#next();
    return { task: taskIdSchema.parse(idOf(6, number)), attempt: attemptIdSchema.parse(idOf(7, number)) };
  }

  #next(): number {
    this.#made += 1;
    return this.#made;
  }

  /** When something comes due by the rows as they are: windows, time limits, clones, nodes thought dead. */
  dueMs(): number[] {
    const { agents, attempts, nodes, nowMs } = this.db;
    const attemptsDue = [...attempts.rows.values()].flatMap(({ rank, offerUntilMs, expiresAtMs }) => {
      if (rank === 1 && offerUntilMs !== null) return [offerUntilMs, offerUntilMs, offerUntilMs + 90_000];
      return rank === 0 ? [expiresAtMs] : [];
    });
    const agentsDue = [...agents.rows.values()].flatMap(({ refusedAtMs, lastSeenAtMs, status }) => [
      ...(refusedAtMs !== null && status === "active" ? [refusedAtMs + 10_000, refusedAtMs + 10_000] : []),
      ...(lastSeenAtMs === null ? [] : [lastSeenAtMs + 5_000, lastSeenAtMs + 60_000]),
    ]);
    const nodesDue = [...nodes.rows.values()].flatMap((row) => [row.heartbeatAtMs + 15_000, row.startedAtMs + 60_000]);
    return [...attemptsDue, ...agentsDue, ...nodesDue].filter((atMs) => atMs > nowMs);
  }

  /** Of the few enrolled first most of the time; the last two may not exist yet. */
  agent(dice: Dice): AgentId {
    return agentId(dice.below(8) % agentCount);
  }

  node(dice: Dice): NodeId {
    return nodeId(dice.below(nodeCount));
  }

  /** The boot the agent's row names, or another of its few. */
  boot(dice: Dice, agent: AgentId): BootId {
    const known = this.db.agents.get(agent)?.bootId;
    return known === undefined || known === null || dice.once(8) ? this.anyBoot(dice, agent) : known;
  }

  anyBoot(dice: Dice, agent: AgentId): BootId {
    return bootId(numberOf(agent) * bootsEach + dice.below(bootsEach));
  }

  journal(dice: Dice, agent: AgentId): JournalId {
    const known = this.db.agents.get(agent)?.journalId;
    return known === undefined || known === null || dice.once(8) ? this.anyJournal(dice, agent) : known;
  }

  anyJournal(dice: Dice, agent: AgentId): JournalId {
    return journalId(numberOf(agent) * journalsEach + dice.below(journalsEach));
  }

  /** An attempt, mostly an open one; a number never stored now and then. */
  attempt(dice: Dice): AttemptRow | AttemptId {
    const rows = [...this.db.attempts.rows.values()].toSorted((a, b) => b.queueNo - a.queueNo);
    const open = rows.filter(({ rank }) => rank < 9);
    const from = dice.below(8) < 6 && open.length > 0 ? open : rows;
    const chosen = dice.once(30) ? undefined : dice.maybe(from.slice(0, 10));
    return chosen ?? attemptIdSchema.parse(idOf(7, 0xfff));
  }

  /** Who writes of it: its agent with its journal, or now and then another. */
  owner(dice: Dice, attempt: AttemptRow | AttemptId): Owner {
    if (typeof attempt === "string") {
      const agent = this.agent(dice);
      return { agent, journalId: this.journal(dice, agent) };
    }
    const agent = dice.once(16) ? this.agent(dice) : attempt.agent;
    const own = attempt.journalId ?? this.db.agents.get(agent)?.journalId ?? null;
    return { agent, journalId: own === null || dice.once(12) ? this.anyJournal(dice, agent) : own };
  }

  /** The row's home number, moved: equal, next, stale or ahead. */
  homeNo(dice: Dice, attempt: AttemptRow | AttemptId): number {
    const now = typeof attempt === "string" ? 0 : (this.db.logs.get(attempt.id)?.homeNo ?? 0);
    return Math.max(0, now + dice.oneOf([1, 0, 0, 0, -1, 2]));
  }
}

export function attemptIdOf(attempt: AttemptRow | AttemptId): AttemptId {
  return typeof attempt === "string" ? attempt : attempt.id;
}

export const numberOf = (id: string): number => Number.parseInt(id.slice(-12), 16);
