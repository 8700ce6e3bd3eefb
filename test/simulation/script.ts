// A script as the simulation runs it: its plan travels as the text of the spec, its bytes are a function of attempt, stream
// and offset, so that any stored byte can be checked without keeping what was written.
import { createHash } from "node:crypto";
import { z } from "zod";
import type { AttemptId } from "../../shared/ids.ts";
import type { Stream, TaskSpec } from "../../shared/task.ts";
import { taskSpecSchema } from "../../shared/task.ts";
import type { SeededRandom } from "./kernel/random.ts";

const planSchema = z.object({
  runMs: z.number(),
  exitCode: z.int(),
  out: z.int(),
  err: z.int(),
  pieces: z.int(),
  /** What TERM does: nothing, an end by the signal, or an end of its own with this code. */
  onTerm: z.union([z.literal("ignore"), z.literal("die"), z.int()]),
  /** How long a child lives on after the script's end, in the same tree. */
  childMs: z.number(),
  /** From one piece of output to the next; spread over the run when it is not given. */
  pieceMs: z.number().optional(),
  tag: z.int(),
});
export type ScriptPlan = z.infer<typeof planSchema>;

export function planScript(random: SeededRandom, tag: number, longestMs: number): ScriptPlan {
  const isLoud = random.chance(0.08);
  return {
    runMs: random.chance(0.5) ? random.between(5, longestMs) : random.skewed(5, longestMs),
    exitCode: random.chance(0.7) ? 0 : 1 + random.below(9),
    out: random.chance(0.2) ? 0 : isLoud ? random.below(220_000) : random.below(1_200),
    err: random.chance(0.6) ? 0 : random.below(400),
    pieces: 1 + random.below(5),
    onTerm: random.chance(0.3) ? "ignore" : random.chance(0.5) ? "die" : 100 + random.below(20),
    childMs: random.chance(0.15) ? random.between(10, 20_000) : 0,
    tag,
  };
}

export function specOf(plan: ScriptPlan, limits: { readonly timeoutMs: number; readonly graceMs: number }): TaskSpec {
  return taskSpecSchema.parse({ kind: "script", interpreter: "sh", script: JSON.stringify(plan), ...limits });
}

export function readPlan(script: string): ScriptPlan {
  return planSchema.parse(JSON.parse(script));
}

function saltOf(attempt: AttemptId, stream: Stream): number {
  let hash = stream === "out" ? 17 : 91;
  for (let at = 24; at < attempt.length; at += 1) hash = Math.imul(hash ^ attempt.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}

/** The bytes a script writes at an offset of a stream. */
export function bytesAt(
  place: { readonly attempt: AttemptId; readonly stream: Stream },
  offset: number,
  length: number,
): Uint8Array {
  const salt = saltOf(place.attempt, place.stream);
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 1)
    bytes[at] = (salt + Math.imul(offset + at, 2_654_435) + ((offset + at) >>> 8)) >>> 3;
  return bytes;
}

export function sha256At(place: { readonly attempt: AttemptId; readonly stream: Stream }, length: number): string {
  return createHash("sha256")
    .update(bytesAt(place, 0, length))
    .digest("hex");
}
