// Frames of the journal file: length, CRC of the length, CRC of the payload, payload. Knows nothing of what records mean.
// Invariant: a file cut at any byte reads as its whole records and a torn tail; any other change of a written byte
// reads as damage, never as a shorter journal, for forgetting a record could start a script twice.
import { crc32 } from "node:zlib";

const headBytes = 12;
/** Larger than any record: a spec may take 768 KiB, a batch of closed ids 40 KiB. */
const payloadBytesAtMost = 4 * 1024 * 1024;

export function encodeJournalFrame(payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(headBytes + payload.byteLength);
  frame.writeUInt32LE(payload.byteLength, 0);
  frame.writeUInt32LE(crc32(frame.subarray(0, 4)), 4);
  frame.writeUInt32LE(crc32(payload), 8);
  frame.set(payload, headBytes);
  return frame;
}

export interface JournalScan {
  /** Payloads in order; after damage, also those found behind it, which serve reading only. */
  readonly payloads: readonly Buffer[];
  /** Where the next record is to be written: the end of the whole records before any torn tail. */
  readonly end: number;
  readonly damage: "none" | "torn-tail" | "middle";
}

/** Reads a whole journal. A torn tail was by design never acknowledged to anybody and is dropped. */
export function scanJournal(file: Buffer): JournalScan {
  const payloads: Buffer[] = [];
  let at = 0;
  while (at < file.length) {
    const payload = readAt(file, at);
    if (payload === undefined) {
      if (isTorn(file, at)) return { payloads, end: at, damage: "torn-tail" };
      return { payloads: [...payloads, ...salvage(file, at + 1)], end: at, damage: "middle" };
    }
    payloads.push(payload);
    at += headBytes + payload.length;
  }
  return { payloads, end: at, damage: "none" };
}

function lengthAt(file: Buffer, at: number): number | undefined {
  if (at + headBytes > file.length) return undefined;
  const length = file.readUInt32LE(at);
  const isWhole = length <= payloadBytesAtMost && crc32(file.subarray(at, at + 4)) === file.readUInt32LE(at + 4);
  return isWhole ? length : undefined;
}

function readAt(file: Buffer, at: number): Buffer | undefined {
  const length = lengthAt(file, at);
  if (length === undefined || at + headBytes + length > file.length) return undefined;
  const payload = file.subarray(at + headBytes, at + headBytes + length);
  return crc32(payload) === file.readUInt32LE(at + 8) ? payload : undefined;
}

/**
 * A write that power loss cut: too short for its head or its payload, or ending in blocks the file system never filled,
 * however few of their bytes the write had reached. A payload is JSON and ends in `}`, which no flipped bit makes a NUL.
 */
function isTorn(file: Buffer, at: number): boolean {
  const rest = file.subarray(at);
  if (rest.length < headBytes) return true;
  const length = lengthAt(file, at);
  if (length !== undefined && at + headBytes + length > file.length) return true;
  if (salvage(file, at + 1).length > 0) return false;
  return rest.at(-1) === 0;
}

/** Whole records behind damage, found byte by byte: two CRCs make a false one practically impossible. */
function salvage(file: Buffer, from: number): Buffer[] {
  const found: Buffer[] = [];
  let at = from;
  while (at + headBytes <= file.length) {
    const payload = readAt(file, at);
    // An empty payload is never written; sixteen zero bytes would otherwise pass as one.
    if (payload === undefined || payload.length === 0) at += 1;
    else {
      found.push(payload);
      at += headBytes + payload.length;
    }
  }
  return found;
}
