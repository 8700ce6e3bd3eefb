// The kinds of record in the agent's journal, as JSON checked by zod when it is read back. What they add up to is
// journal-state.ts's work. Invariant: a record that was ever written stays readable by every later version.
import { z } from "zod";
import { AppError } from "../shared/errors.ts";
import { attemptIdSchema, bootIdSchema, journalIdSchema, taskIdSchema } from "../shared/ids.ts";
import { lostFields } from "../shared/lost-fields.ts";
import { laneSchema, taskSpecSchema } from "../shared/task.ts";
import { count, text } from "../shared/wire/fields.ts";
import { bootsPerHello } from "../shared/wire/hello.ts";
import { neverReasons } from "../shared/wire/refuse.ts";
import { resultRecordSchema } from "../shared/wire/result.ts";

const attempt = attemptIdSchema;

/** What stays the same over an attempt's life. The spec is in the record itself: one sync makes both durable. */
export const attemptFactsSchema = z.object({
  attempt,
  task: taskIdSchema,
  attemptNumber: z.int().min(1),
  offerNo: count,
  lane: laneSchema,
  spec: taskSpecSchema,
  /** How many it has; they lie sealed in its folder, synced before this record was written. */
  secrets: z.int().min(1).optional(),
  /** Fields of the spec that a later version wrote and this one does not know: it must not start it. */
  lostFields: z.array(text).min(1).optional(),
});
export type AttemptFacts = z.infer<typeof attemptFactsSchema>;

export const refusalSchema = z.object({ reason: z.enum(neverReasons), detail: text.optional() });
export type Refusal = z.infer<typeof refusalSchema>;

/** Closed ids one record carries when the journal is rewritten. */
export const closedPerRecord = 1_000;

export const journalRecordSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("journal"), format: z.literal(1), id: journalIdSchema }),
  /** One per agent process, synced before its first hello. */
  z.object({ kind: z.literal("boot"), counter: count, bootId: bootIdSchema, hostBootId: text }),
  /** INTENT; with `startingOn` (the host's boot id) it is STARTING as well. */
  z.object({ kind: z.literal("intent"), facts: attemptFactsSchema, startingOn: text.optional() }),
  /** The boots a later hello names, this process's last; written when a greeting made the older ones superfluous. */
  z.object({ kind: z.literal("lineage"), boots: z.array(bootIdSchema).max(bootsPerHello) }),
  z.object({ kind: z.literal("starting"), attempt, hostBootId: text }),
  /** For people who read the journal; nothing depends on it and nobody waits for its sync. */
  z.object({ kind: z.literal("started"), attempt, startedAtMs: count }),
  z.object({ kind: z.literal("cancelling"), attempt, graceMs: count }),
  /** Where log and result flow: never synced, because a number that is too low is corrected by the node's answer. */
  z.object({ kind: z.literal("home"), attempt, homeNo: count }),
  /** The end. Without an intent before it, it is the tombstone of an attempt that was cancelled before it was offered. */
  z.object({ kind: z.literal("result"), attempt, record: resultRecordSchema }),
  z.object({ kind: z.literal("acknowledged"), attempt }),
  /** Refused for good, and why, so that a repeated offer gets the same answer. */
  z.object({ kind: z.literal("tombstone"), attempt, refusal: refusalSchema }),
  z.object({ kind: z.literal("closed"), attempts: z.array(attempt).min(1).max(closedPerRecord) }),
]);
export type JournalRecord = z.infer<typeof journalRecordSchema>;

/**
 * With its place in the file: what a record does not say itself (that none before it was lost, doubled or moved) no CRC of its
 * own can tell. Agents that know of no number pass over it, and records of theirs have none.
 */
export function encodeRecord(record: JournalRecord, no?: number): Buffer {
  return Buffer.from(JSON.stringify(no === undefined ? record : { ...record, no }));
}

const numberSchema = z.object({ no: count.optional() });

/** Throws `journal.corrupt`: the CRC held, so what does not parse was written by something else. */
export function decodeRecord(payload: Buffer): JournalRecord {
  return decodeNumberedRecord(payload).record;
}

/** As {@link decodeRecord}, with the place that the record says it has. */
export function decodeNumberedRecord(payload: Buffer): { readonly record: JournalRecord; readonly no?: number } {
  try {
    const value: unknown = JSON.parse(payload.toString("utf8"));
    const { no } = numberSchema.parse(value);
    const parsed = journalRecordSchema.parse(value);
    const record = parsed.kind === "intent" ? { ...parsed, facts: withLost(parsed.facts, value) } : parsed;
    return no === undefined ? { record } : { record, no };
  } catch (cause) {
    throw new AppError("journal.corrupt", `a journal record of ${payload.length} bytes has an unknown form`, { cause });
  }
}

function withLost(facts: AttemptFacts, record: unknown): AttemptFacts {
  const { facts: written } = z.object({ facts: z.object({ spec: z.unknown() }) }).parse(record);
  const lost = lostFields(written.spec, facts.spec);
  return lost.length === 0 ? facts : { ...facts, lostFields: lost };
}
