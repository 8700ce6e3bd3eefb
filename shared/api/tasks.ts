// Tasks as the API shows them. `home`, `exitCode`, `signal` and `reason` are those of the latest attempt.
import { z } from "zod";
import { progressPercent } from "../progress-line.ts";
import { laneSchema, outcomes, taskStates, type TaskSpec } from "../task.ts";
import { momentSchema } from "./moment.ts";
import { pageQuery } from "./page.ts";

const exitCode = z
  .int()
  .nullable()
  .describe("The script's own code; null when it ended by a signal or never ended by itself");
const signal = z.string().nullable().describe("Such as SIGTERM");
const home = z.string().nullable().describe("Name of the node its log flows through while it runs");
const reason = z
  .string()
  .nullable()
  .describe("Why it is in this state, such as host-reboot, when there is more to say");

/** What an agent reported of an attempt that had ended already: it changes no verdict. */
export const lateResultSchema = z.object({
  receivedAt: momentSchema,
  outcome: z.enum(outcomes),
  reason,
  exitCode,
  signal,
});
export type LateResult = z.infer<typeof lateResultSchema>;

export const progressViewSchema = z.object({
  percent: progressPercent.describe("Null when the script gave none"),
  message: z.string().describe("The script's own words, secrets masked; may hold anything but line breaks"),
  at: momentSchema.describe("When this was first stored"),
});
export type ProgressView = z.infer<typeof progressViewSchema>;

export const attemptViewSchema = z.object({
  id: z.string(),
  number: z.int(),
  state: z.enum(taskStates),
  reason,
  exitCode,
  signal,
  home,
  offers: z.int(),
  createdAt: momentSchema,
  acceptedAt: momentSchema.nullable(),
  startedAt: momentSchema.nullable(),
  finishedAt: momentSchema.nullable(),
  outBytes: z.int().describe("Bytes of standard output known so far, omitted ones counted"),
  errBytes: z.int(),
  progress: progressViewSchema
    .nullable()
    .default(null)
    .describe("How far the script said last that it is; null when it has said nothing"),
  outputs: z
    .record(z.string(), z.string())
    .optional()
    .describe("Output variables that the script set; left out in listings"),
  lateResults: z
    .array(lateResultSchema)
    .default([])
    .describe("Results that came after its end, such as that of an abandoned script; they change nothing"),
});
export type AttemptView = z.infer<typeof attemptViewSchema>;

/** What a task does, without the values of its environment. */
export const specSummarySchema = z.object({
  kind: z.string().describe("script, no-op or update; a later version may have others"),
  title: z.string().describe("First line of the script that says something, at most 120 characters"),
  interpreter: z.string().nullable(),
  scriptBytes: z.int(),
  timeoutMs: z.int().nullable(),
  secrets: z.array(z.string()).default([]).describe("Names of its secrets; their values are never shown"),
});
export type SpecSummary = z.infer<typeof specSummarySchema>;

export const taskViewSchema = z.object({
  id: z.string(),
  submission: z.string(),
  agent: z.string().describe("Name"),
  state: z.enum(taskStates),
  reason,
  home,
  exitCode,
  signal,
  waiting: z.string().nullable().describe("Why it waits, while it has not started"),
  cancelRequested: z.boolean(),
  lane: laneSchema,
  spec: specSummarySchema,
  createdAt: momentSchema,
  finishedAt: momentSchema.nullable(),
  attempts: z.array(attemptViewSchema),
});
export type TaskView = z.infer<typeof taskViewSchema>;

export const taskListQuerySchema = z.object({
  ...pageQuery,
  state: z.enum(taskStates).optional(),
  agent: z.string().max(128).optional().describe("Name or id"),
});

export const logQuerySchema = z.object({ stream: z.enum(["out", "err", "both"]).default("both") });

const titleChars = 120;

/** Of a spec that a later version stored and this one does not understand: it is shown all the same, with all the others. */
export function summariseForeign(spec: unknown, secrets: readonly string[]): SpecSummary {
  const { kind } = z.object({ kind: z.string() }).safeParse(spec).data ?? { kind: "unknown" };
  const title = `${kind}, as a later version than this node's has it`.slice(0, titleChars);
  return { kind, title, interpreter: null, scriptBytes: 0, timeoutMs: null, secrets: [...secrets] };
}

export function summarise(spec: TaskSpec, secrets: readonly string[] = []): SpecSummary {
  if (spec.kind !== "script") {
    const title = spec.kind === "update" ? `update the agent to ${spec.sha256.slice(0, 12)}` : spec.kind;
    return { kind: spec.kind, title, interpreter: null, scriptBytes: 0, timeoutMs: null, secrets: [...secrets] };
  }
  const line = spec.script.split("\n", 64).find((text) => text.trim() !== "" && !text.startsWith("#"));
  return {
    kind: "script",
    title: (line ?? spec.script).trim().slice(0, titleChars),
    interpreter: spec.interpreter,
    scriptBytes: new TextEncoder().encode(spec.script).length,
    timeoutMs: spec.timeoutMs,
    secrets: [...secrets],
  };
}
