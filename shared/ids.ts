// Identifiers: UUID version 7 (RFC 9562), so that they sort by creation and log partitions can be cut by them.
// Each kind is a brand of its own: an attempt id cannot be passed where a task id is wanted.
import { z } from "zod";
import type { Clock } from "./clock.ts";
import type { Random } from "./random.ts";

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** Names of this form would be mistaken for ids where either is taken. */
export function isIdForm(text: string): boolean {
  return uuidPattern.test(text.toLowerCase());
}

const uuid = z.string().regex(uuidPattern, "expected a UUID in lower case");

export const clusterIdSchema = uuid.brand<"ClusterId">();
export const nodeIdSchema = uuid.brand<"NodeId">();
export const agentIdSchema = uuid.brand<"AgentId">();
export const submissionIdSchema = uuid.brand<"SubmissionId">();
export const taskIdSchema = uuid.brand<"TaskId">();
export const attemptIdSchema = uuid.brand<"AttemptId">();
export const journalIdSchema = uuid.brand<"JournalId">();
export const bootIdSchema = uuid.brand<"BootId">();
export const tokenIdSchema = uuid.brand<"TokenId">();
export const apiKeyIdSchema = uuid.brand<"ApiKeyId">();

export type ClusterId = z.infer<typeof clusterIdSchema>;
export type NodeId = z.infer<typeof nodeIdSchema>;
export type AgentId = z.infer<typeof agentIdSchema>;
export type SubmissionId = z.infer<typeof submissionIdSchema>;
export type TaskId = z.infer<typeof taskIdSchema>;
export type AttemptId = z.infer<typeof attemptIdSchema>;
export type JournalId = z.infer<typeof journalIdSchema>;
export type BootId = z.infer<typeof bootIdSchema>;
export type TokenId = z.infer<typeof tokenIdSchema>;
export type ApiKeyId = z.infer<typeof apiKeyIdSchema>;

export interface IdSource {
  /** A new UUIDv7 as plain text; parse it with the schema of its kind, or use {@link newId}. */
  next(): string;
}

/** Ids from a clock and a random source; ids of one source grow strictly even within one millisecond. */
export function createIdSource(deps: { readonly clock: Clock; readonly random: Random }): IdSource {
  let lastMs = -1;
  let sequence = 0;
  return {
    next() {
      const nowMs = Math.max(deps.clock.wallMs(), lastMs);
      sequence = nowMs === lastMs ? sequence + 1 : 0;
      if (sequence > 0xfff) {
        lastMs = nowMs + 1;
        sequence = 0;
      } else {
        lastMs = nowMs;
      }
      return uuidV7(lastMs, sequence, deps.random.bytes(8));
    },
  };
}

function uuidV7(wallMs: number, sequence: number, tail: Uint8Array): string {
  const time = Math.trunc(wallMs).toString(16).padStart(12, "0");
  const rest = Buffer.from(tail);
  rest[0] = ((rest[0] ?? 0) & 0x3f) | 0x80;
  const hex = rest.toString("hex");
  const middle = (0x7000 | sequence).toString(16);
  return `${time.slice(0, 8)}-${time.slice(8)}-${middle}-${hex.slice(0, 4)}-${hex.slice(4)}`;
}

/** A new id of the kind that `schema` brands: `newId(ids, taskIdSchema)`. */
export function newId<Schema extends z.ZodType>(source: IdSource, schema: Schema): z.infer<Schema> {
  return schema.parse(source.next());
}

/** The smallest UUIDv7 of a moment: the bound between two partitions. */
export function firstIdAt(wallMs: number): string {
  return `${Math.trunc(wallMs)
    .toString(16)
    .padStart(12, "0")
    .replace(/^(.{8})/, "$1-")}-0000-0000-000000000000`;
}
