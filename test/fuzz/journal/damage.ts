// A journal as an agent writes one, and what may happen to its bytes: power loss, bit rot, blocks that read as zeros or as
// something older, and whole records doubled, lost or moved. Pure: the same dice give the same file.
import { encodeJournalFrame } from "../../../agent/journal-frame.ts";
import { encodeRecord, type JournalRecord } from "../../../agent/journal-record.ts";
import { attemptIdSchema, bootIdSchema, journalIdSchema, taskIdSchema, type AttemptId } from "../../../shared/ids.ts";
import { sha256Hex } from "../../../shared/thumbprint.ts";
import type { Dice } from "../dice.ts";

const idOf = (no: number): string => `00000000-0000-7000-8000-${no.toString(16).padStart(12, "0")}`;
const empty = { length: 0, sha256: sha256Hex("") };

export interface WrittenJournal {
  readonly records: readonly JournalRecord[];
  readonly frames: readonly Buffer[];
}

/** Some boots with the attempts of each, their records interleaved as several run at once. */
export function writtenJournal(dice: Dice): WrittenJournal {
  const records: JournalRecord[] = [{ kind: "journal", format: 1, id: journalIdSchema.parse(idOf(1)) }];
  let attempts = 0;
  for (let counter = 1; counter <= 1 + dice.below(3); counter += 1) {
    records.push({ kind: "boot", counter, bootId: bootIdSchema.parse(idOf(100 + counter)), hostBootId: "host" });
    const lives = Array.from({ length: dice.below(5) }, () => {
      attempts += 1;
      return lifeOf(attemptIdSchema.parse(idOf(1_000 + attempts)), dice);
    });
    while (lives.some((life) => life.length > 0)) {
      const record = dice.pick(lives).shift();
      if (record !== undefined) records.push(record);
    }
  }
  return { records, frames: records.map((record, no) => encodeJournalFrame(encodeRecord(record, no))) };
}

function lifeOf(attempt: AttemptId, dice: Dice): JournalRecord[] {
  if (dice.chance(0.1)) return [{ kind: "tombstone", attempt, refusal: { reason: "invalid" } }];
  const facts = {
    attempt,
    task: taskIdSchema.parse(attempt),
    attemptNumber: 1,
    offerNo: 1,
    lane: "work" as const,
    spec: { kind: "no-op" as const },
  };
  const isAtOnce = dice.chance(0.5);
  const life: JournalRecord[] = [
    { kind: "intent", facts, ...(isAtOnce ? { startingOn: "host" } : {}) },
    ...(isAtOnce ? [] : [{ kind: "starting" as const, attempt, hostBootId: "host" }]),
    { kind: "started", attempt, startedAtMs: 5 },
    ...(dice.chance(0.2) ? [{ kind: "cancelling" as const, attempt, graceMs: 10 }] : []),
    { kind: "home", attempt, homeNo: 2 },
    {
      kind: "result",
      attempt,
      record: {
        outcome: "succeeded",
        reason: "",
        exitCode: 0,
        signal: null,
        startedAtMs: 5,
        finishedAtMs: 6,
        durationMs: 1,
        out: empty,
        err: empty,
      },
    },
    { kind: "acknowledged", attempt },
    { kind: "closed", attempts: [attempt] },
  ];
  return life.slice(0, 1 + dice.below(life.length));
}

export interface Damaged {
  readonly what: string;
  readonly file: Buffer;
}

type Act = (dice: Dice, frames: readonly Buffer[], file: Buffer) => Buffer;

const acts: Record<string, Act> = {
  "cut short": (dice, _frames, file) => file.subarray(0, dice.below(file.length + 1)),
  "cut short, blocks of zeros behind": (dice, _frames, file) =>
    Buffer.concat([file.subarray(0, dice.below(file.length + 1)), Buffer.alloc(1 + dice.below(4_096))]),
  "bits flipped": (dice, _frames, file) => {
    const copy = Buffer.from(file);
    for (let flips = 1 + dice.below(4); flips > 0; flips -= 1) {
      const at = dice.below(copy.length);
      copy.writeUInt8(copy.readUInt8(at) ^ (1 << dice.below(8)), at);
    }
    return copy;
  },
  "zeros inside": (dice, _frames, file) => {
    const copy = Buffer.from(file);
    const at = dice.below(copy.length);
    return copy.fill(0, at, Math.min(copy.length, at + 1 + dice.below(600)));
  },
  "bytes lost inside": (dice, _frames, file) => {
    const at = dice.below(file.length);
    return Buffer.concat([file.subarray(0, at), file.subarray(at + 1 + dice.below(200))]);
  },
  "bytes added inside": (dice, _frames, file) => {
    const at = dice.below(file.length + 1);
    return Buffer.concat([file.subarray(0, at), dice.bytes(1 + dice.below(64)), file.subarray(at)]);
  },
  "an older block inside": (dice, _frames, file) => {
    const copy = Buffer.from(file);
    file.copy(copy, dice.below(file.length), dice.below(file.length), file.length);
    return copy;
  },
  "a length that is huge": (dice, frames, file) => {
    const at = Buffer.concat(frames.slice(0, dice.below(frames.length))).length;
    const copy = Buffer.from(file);
    copy.writeUInt32LE(dice.pick([0, 0x7f_ff_ff_ff, 0xff_ff_ff_ff, 4 * 1024 * 1024, file.length]), at);
    return copy;
  },
  "a record twice": (dice, frames) => {
    const from = dice.below(frames.length);
    return Buffer.concat(frames.toSpliced(dice.below(frames.length + 1), 0, ...frames.slice(from, from + 1)));
  },
  "a record lost": (dice, frames) => Buffer.concat(frames.toSpliced(dice.below(frames.length), 1 + dice.below(3))),
  "records moved": (dice, frames) => {
    const at = dice.below(frames.length);
    const moved = frames.slice(at, at + 1);
    return Buffer.concat(frames.toSpliced(at, 1).toSpliced(dice.below(frames.length), 0, ...moved));
  },
  "a record without a form": (dice, frames) =>
    Buffer.concat(
      frames.toSpliced(
        dice.below(frames.length + 1),
        0,
        encodeJournalFrame(
          Buffer.from(dice.pick(["", "null", "[]", "{}", '{"kind":"later"}', "\0\0\0\0", '{"kind":"closed"'])),
        ),
      ),
    ),
  noise: (dice) => dice.bytes(dice.below(400)),
};

export const damages = Object.keys(acts);

export function damaged({ frames }: WrittenJournal, dice: Dice): Damaged {
  const file = Buffer.concat(frames);
  const what = dice.pick(damages);
  return { what, file: acts[what]?.(dice, frames, file) ?? file };
}

/** How many of the journal's own records stand whole at the file's begin. */
export function wholePrefix({ frames }: WrittenJournal, file: Buffer): number {
  let at = 0;
  let whole = 0;
  for (const frame of frames) {
    if (Buffer.compare(file.subarray(at, at + frame.length), frame) !== 0) break;
    at += frame.length;
    whole += 1;
  }
  return whole;
}
