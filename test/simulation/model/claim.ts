// claim-attempts.ts, release-offers.ts and refuse-attempts.ts on the model: all that happens to an attempt of rank 0 and 1.
import {
  claimBytes,
  offerWindowMs,
  type ClaimCredit,
  type ClaimedAttempt,
  type ClaimInput,
} from "../../../server/store/claim-attempts.ts";
import type { Refusal } from "../../../server/store/refuse-attempts.ts";
import type { ReleasedOffer } from "../../../server/store/release-offers.ts";
import { storable } from "../../../server/store/rows.ts";
import type { AttemptId, NodeId } from "../../../shared/ids.ts";
import type { ModelDatabase } from "./database.ts";
import type { AttemptRow } from "./rows.ts";
import { compare } from "./submit.ts";

const aheadMs = 30_000;

function isUnanswered(db: ModelDatabase, { offerUntilMs }: AttemptRow): boolean {
  return offerUntilMs !== null && (offerUntilMs < db.nowMs || offerUntilMs > db.nowMs + aheadMs);
}

interface Pick {
  readonly row: AttemptRow;
  readonly band: number;
}

const byPlace = (a: Pick, b: Pick): number => a.band - b.band || a.row.queueNo - b.row.queueNo;

/** Where the statement is free to choose: what it is known to have claimed. */
export interface Claimed {
  readonly attempts: ReadonlySet<AttemptId>;
  /** `left`: other transactions may have held them, and a claim leaves such rows. Default `candidates`. */
  readonly others?: "candidates" | "left";
}

/** Of several unanswered offers the statement takes any; the model those it took, or by queue number. */
function byChoice(claimed: Claimed | undefined): (a: Pick, b: Pick) => number {
  if (claimed === undefined) return byPlace;
  const isChosen = ({ row }: Pick): number => Number(claimed.attempts.has(row.id));
  // Of the others the last: one that it chose as well was cut off behind those it claimed.
  return (a, b) => isChosen(b) - isChosen(a) || b.row.queueNo - a.row.queueNo;
}

function picksFor(db: ModelDatabase, credit: ClaimCredit, claimed: Claimed | undefined): Pick[] {
  const own = [...db.attempts.rows.values()].filter(
    (row) =>
      row.agent === credit.agent &&
      row.lane === credit.lane &&
      (claimed?.others !== "left" || claimed.attempts.has(row.id)),
  );
  const queued = own
    .filter((row) => row.rank === 0)
    .map((row) => ({ row, band: row.band }))
    .toSorted(byPlace)
    .slice(0, credit.credit);
  const again =
    credit.again === false
      ? []
      : own
          .filter(
            (row) =>
              row.rank === 1 && !row.cancelRequested && row.journalId === credit.journalId && isUnanswered(db, row),
          )
          .map((row) => ({ row, band: -1 }))
          .toSorted(byChoice(claimed))
          .slice(0, credit.credit);
  return [...queued, ...again].toSorted(byPlace).slice(0, credit.credit);
}

interface ClaimPick extends Pick {
  readonly credit: ClaimCredit;
}

/** In their order, while those before them have fewer bytes than a claim brings of a lane, and of all. */
function withinBytes(db: ModelDatabase, picks: readonly ClaimPick[]): ClaimPick[] {
  const ofLane = new Map<ClaimCredit, number>();
  let ofAll = 0;
  return picks.filter(({ row, credit }) => {
    const bytes = Buffer.byteLength(db.tasks.get(row.task)?.spec ?? "");
    const ahead = ofLane.get(credit) ?? 0;
    ofLane.set(credit, ahead + bytes);
    if (ahead >= claimBytes.lane) return false;
    const before = ofAll;
    ofAll += bytes;
    return before < claimBytes.all;
  });
}

export function claimAttempts(db: ModelDatabase, input: ClaimInput, claimed?: Claimed): ClaimedAttempt[] {
  if (db.cluster.get("one")?.paused === true) return [];
  const sessions = input.credits.filter(({ agent, bootId, journalId }) => {
    const row = db.agents.get(agent);
    return row?.status === "active" && row.isPaused !== true && row.bootId === bootId && row.journalId === journalId;
  });
  const picked = sessions
    .flatMap((credit) => picksFor(db, credit, claimed).map((pick) => ({ ...pick, credit })))
    .toSorted(byPlace)
    .slice(0, input.most)
    .filter(({ row }) => row.rank < 2 && !row.cancelRequested);
  return withinBytes(db, picked)
    .toSorted((a, b) => compare(a.row.id, b.row.id))
    .map(({ row, credit }) => {
      const task = db.tasks.get(row.task);
      if (task === undefined) throw new Error("an attempt without a task");
      const offerNo = row.offerNo + 1;
      db.attempts.put(row.id, {
        ...row,
        rank: 1,
        state: "offered",
        offerNo,
        journalId: credit.journalId,
        offeredBy: input.node,
        reason: "",
        unanswered: Math.min(row.unanswered + 1, 10),
        offerUntilMs: db.nowMs + Math.min(offerWindowMs.most, offerWindowMs.first * 2 ** row.unanswered),
      });
      const { id: attempt, agent, number: attemptNumber, lane, createdAtMs } = row;
      return {
        attempt,
        task: row.task,
        agent,
        attemptNumber,
        offerNo,
        lane,
        journalId: credit.journalId,
        spec: task.spec,
        waitedMs: db.nowMs - createdAtMs,
      };
    });
}

export function releaseOffers(db: ModelDatabase, node: NodeId, offers: readonly ReleasedOffer[]): void {
  for (const { attempt, offerNo } of offers) {
    const row = db.attempts.get(attempt);
    if (row?.rank !== 1 || row.offerNo !== offerNo || row.offeredBy !== node) continue;
    db.attempts.put(attempt, { ...row, offerUntilMs: db.nowMs });
  }
}

export function refuseAttempts(db: ModelDatabase, items: readonly Refusal[]): void {
  for (const item of items) {
    const row = db.attempts.get(item.attempt);
    if (row?.rank !== 1 || row.agent !== item.agent || row.journalId !== item.journalId) continue;
    if (row.offerNo !== item.offerNo && item.class !== "never") continue;
    const changed: AttemptRow = { ...row, reason: storable(item.reason), unanswered: 0 };
    if (item.class === "later") db.attempts.put(row.id, { ...changed, offerUntilMs: db.nowMs });
    else {
      db.attempts.put(row.id, { ...changed, rank: 9, state: "refused", finishedAtMs: db.nowMs });
      closeLog(db, row.id);
    }
  }
}

/** Nothing is added to a final attempt's log. */
export function closeLog(db: ModelDatabase, attempt: AttemptId): void {
  const log = db.logs.get(attempt);
  if (log !== undefined && !log.closed) db.logs.put(attempt, { ...log, closed: true });
}
