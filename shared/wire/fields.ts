// Field schemas that several messages share. Bounds here are the wire's own; SECURITY section 5 is their source.
import { z } from "zod";
import { attemptIdSchema } from "../ids.ts";
import { streamSchema } from "../task.ts";

/** Small messages carry arrays so that a burst costs one frame. */
export const itemsPerMessage = 64;

export function itemsOf<Item extends z.ZodType>(item: Item) {
  return z.array(item).min(1).max(itemsPerMessage);
}

export const count = z.int().min(0);
/** Of an offer or a home. The database keeps them in four bytes: one beyond them would fail the statement it shares with others. */
export const ordinal = count.max(2_147_483_647);
export const text = z.string().max(1_024);
/** Kept by the database as it is, which has no NUL: a statement with one would fail. */
export const storedText = text.refine((value) => !value.includes("\0"), "must not contain NUL");
export const digestHex = z.string().regex(/^[0-9a-f]{64}$/);
export const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, "expected bytes");

/** Where an attempt's log stream stands: bytes produced, omissions counted as produced. */
export const logPosition = { attempt: attemptIdSchema, stream: streamSchema, offset: count };

/** Largest payload of one `log` frame. Keeps a bulk frame small enough to let control frames overtake. */
export const logFrameBytes = 64 * 1024;
/** What an agent may send of a new attempt's stream before the first `log-ack`. */
export const initialWindowBytes = 64 * 1024;
/** The largest window a node grants to one stream. */
export const largestWindowBytes = 1024 * 1024;
