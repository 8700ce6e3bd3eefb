// What a task is and the states of its attempts (DESIGN section 4): the vocabulary both ends and the HTTP API share.
// Ranks only grow: queued 0, offered 1, accepted 2, running 3, final 9.
import { z } from "zod";
import { attachmentSchema, attachmentsOf } from "./attachment.ts";

export const finalStates = [
  "succeeded",
  "failed",
  "timed-out",
  "cancelled",
  "interrupted",
  "refused",
  "expired",
  "lost",
  "abandoned",
] as const;
export const openStates = ["queued", "offered", "accepted", "running"] as const;
export const taskStates = [...openStates, ...finalStates] as const;

export type FinalState = (typeof finalStates)[number];
export type OpenState = (typeof openStates)[number];
export type TaskState = (typeof taskStates)[number];

export const rank = { queued: 0, offered: 1, accepted: 2, running: 3, final: 9 } as const;
export type Rank = (typeof rank)[keyof typeof rank];

export function rankOf(state: TaskState): Rank {
  switch (state) {
    case "queued":
    case "offered":
    case "accepted":
    case "running":
      return rank[state];
    default:
      return rank.final;
  }
}

export function isFinal(state: TaskState): state is FinalState {
  return rankOf(state) === rank.final;
}

/** What a finished attempt can come to on the agent itself; the other final states are the server's verdicts. */
export const outcomes = ["succeeded", "failed", "timed-out", "cancelled", "interrupted"] as const;
export type Outcome = (typeof outcomes)[number];

export const limits = {
  scriptBytes: 512 * 1024,
  specBytes: 768 * 1024,
  argumentCount: 256,
  interpreterArgumentCount: 32,
  environmentCount: 256,
  argumentBytes: 32 * 1024,
  argumentTotalBytes: 128 * 1024,
  idempotencyKeyChars: 128,
  nameChars: 128,
  labelChars: 63,
  labelsPerAgent: 64,
  tasksPerSubmission: 1_000,
  /** Of the specs of all its tasks, which the database keeps one by one: a statement of 450 MB took longer than any may. */
  submissionBytes: 128 * 1024 * 1024,
  timeoutMs: 30 * 86_400_000,
  lockWaitMs: 30 * 86_400_000,
  graceMs: 600_000,
  /** Slower than this, a full spool of 64 MiB would take days. */
  logBytesPerSecondAtLeast: 1_024,
  /** Less does not start an interpreter. */
  memoryBytesAtLeast: 1024 * 1024,
  pids: 4_194_304,
  queueMs: 30 * 86_400_000,
  /** An update that is cancelled has twice as long to come to its end, within the longest grace time. */
  greetMs: 240_000,
} as const;

const encoder = new TextEncoder();
const bytesOf = (text: string): number => encoder.encode(text).length;
/** Half a surrogate pair is no character: neither the database nor an agent takes text that has one. */
const printable = z
  .string()
  .refine((text) => !text.includes("\0"), "must not contain NUL")
  .refine((text) => text.isWellFormed(), "must not contain half a surrogate pair");
const argument = printable.refine(
  (text) => bytesOf(text) <= limits.argumentBytes,
  `at most ${limits.argumentBytes} bytes`,
);

export const nameSchema = z
  .string()
  .max(limits.nameChars)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "letters, digits, dot, underscore and dash, starting with a letter or digit");
export const labelSchema = z
  .string()
  .max(limits.labelChars)
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._/-]*$/,
    "letters, digits, dot, underscore, slash and dash, starting with a letter or digit",
  );
export const labelsSchema = z
  .record(labelSchema, labelSchema)
  .refine((labels) => Object.keys(labels).length <= limits.labelsPerAgent, `at most ${limits.labelsPerAgent} labels`);
export type Labels = z.infer<typeof labelsSchema>;

export const environmentNameSchema = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, "expected an environment variable's name");

/** What the agent's shim calls its own variables: one of a script's by such a name would reach it changed. */
const agentsOwnPrefix = "hf_";

/** Names of variables that shells keep for themselves: some cannot be set, others would be read as a number. */
export const shellsOwnName =
  /^(BASH.*|_|PPID|UID|EUID|GROUPS|SHELLOPTS|FUNCNAME|DIRSTACK|OPTIND|LINENO|SECONDS|RANDOM)$/;

/** As in passwd, and never to be taken for a number or an option: an id means another user on each host. */
export const userNameSchema = z
  .string()
  .regex(
    /^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/,
    "expected a user's name: letters, digits, dot, underscore and dash, starting with a letter or underscore, up to 32",
  );

/** `full` runs alone under its lock's name; `none` runs beside others of mode `none`. Each agent has its own locks. */
export const isolationModes = ["full", "none"] as const;
export const isolationSchema = z.object({
  name: labelSchema.default("default"),
  mode: z.enum(isolationModes).default("none"),
  /** Milliseconds from acceptance after which it ends `timed-out: lock-wait` when it still waits for its lock. */
  waitMs: z.int().min(0).max(limits.lockWaitMs).optional(),
});
export type Isolation = z.infer<typeof isolationSchema>;

export const scriptSpecSchema = z.object({
  kind: z.literal("script"),
  /** A name the agent knows (`bash`, `sh`, `python3`, `node`, `pwsh`) or an absolute path. */
  interpreter: printable.min(1).max(1_024).default("bash"),
  /** Of the interpreter, before the script; only to agents with the capability `interpreter-args`. */
  interpreterArgs: z.array(argument).min(1).max(limits.interpreterArgumentCount).optional(),
  script: printable.refine((text) => bytesOf(text) <= limits.scriptBytes, `at most ${limits.scriptBytes} bytes`),
  args: z.array(argument).max(limits.argumentCount).default([]),
  env: z
    .record(environmentNameSchema, argument)
    .refine((env) => Object.keys(env).length <= limits.environmentCount, `at most ${limits.environmentCount} variables`)
    .default({}),
  cwd: printable.max(1_024).optional(),
  /** User of the target; without, the one the agent runs as. Only to agents with the capability `user`. */
  user: userNameSchema.optional(),
  /** In the private work folder; only to agents with the capability `attachments`. */
  files: attachmentsOf(attachmentSchema).optional(),
  /** Run time limit in milliseconds, counted from the start of the script; then TERM, grace, KILL to the whole tree. */
  timeoutMs: z.int().min(100).max(limits.timeoutMs).default(3_600_000),
  /** Milliseconds between TERM and KILL on time-out and cancel. */
  graceMs: z.int().min(0).max(limits.graceMs).default(10_000),
  /** Bytes of each stream that the agent sends in a second, at most; the rest waits on its disk, within the spool's bound. */
  logBytesPerSecond: z.int().min(limits.logBytesPerSecondAtLeast).max(Number.MAX_SAFE_INTEGER).optional(),
  /** Bytes of memory that the script and all it starts may take together; beyond, the kernel kills. */
  memoryBytes: z.int().min(limits.memoryBytesAtLeast).max(Number.MAX_SAFE_INTEGER).optional(),
  /** Processes and threads that the script and all it starts may be at once. */
  pids: z.int().min(1).max(limits.pids).optional(),
  /** Beside which others it may run on its agent; without, as mode `none` of the lock `default`. */
  isolation: isolationSchema.optional(),
});

/** Where a node's API answers, as the agent's machine reaches it. */
export const updateServerSchema = z
  .string()
  .max(256)
  .regex(/^https?:\/\/[A-Za-z0-9.:_[\]-]+(?:\/[A-Za-z0-9._~/-]*)?$/, "expected http(s)://HOST[:PORT][/PATH]");

/** Runs no process: accepted, started and finished by the agent at once. For health checks and measuring. */
export const noopSpecSchema = z.object({ kind: z.literal("no-op") });

/**
 * The agent replaces its own executable, as `holdfast agent update` does; what it runs for that is the agent's to say. Made by
 * nodes alone, which state the sum; only to agents with the capability `update`.
 */
export const updateSpecSchema = z.object({
  kind: z.literal("update"),
  /** Of the executable for the agent's platform. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  servers: z.array(updateServerSchema).min(1).max(8),
  /** Milliseconds within which the new version has to have a session with a node. */
  greetMs: z.int().min(1_000).max(limits.greetMs).default(60_000),
  /** Of a cancel: one that has switched goes on until it has decided, forth or back. */
  graceMs: z.int().min(0).max(limits.graceMs).default(180_000),
});
export type UpdateSpec = z.infer<typeof updateSpecSchema>;

function refineScript(
  spec: z.infer<typeof scriptSpecSchema> | { readonly kind: string },
  context: z.RefinementCtx,
): void {
  if (!("script" in spec)) return;
  const total = [...(spec.interpreterArgs ?? []), ...spec.args, ...Object.entries(spec.env).flat()].reduce(
    (sum, text) => sum + bytesOf(text),
    0,
  );
  if (total > limits.argumentTotalBytes) {
    context.addIssue({
      code: "custom",
      message: `arguments and environment take ${total} bytes; at most ${limits.argumentTotalBytes}`,
    });
  }
  // A shell hands them over once the user has changed.
  const kept = spec.user === undefined ? undefined : Object.keys(spec.env).find((name) => shellsOwnName.test(name));
  if (kept !== undefined) {
    context.addIssue({
      code: "custom",
      path: ["env", kept],
      message: "shells keep it: it cannot be given with `user`",
    });
  }
}

/** With a user the variables pass the shim by. Only of what is submitted: what was stored or written down once stays readable. */
function refineSubmitted(
  spec: z.infer<typeof scriptSpecSchema> | { readonly kind: string },
  context: z.RefinementCtx,
): void {
  if (!("script" in spec) || spec.user !== undefined) return;
  const taken = Object.keys(spec.env).find((name) => name.startsWith(agentsOwnPrefix));
  if (taken === undefined) return;
  context.addIssue({
    code: "custom",
    path: ["env", taken],
    message: `names with ${agentsOwnPrefix} are the agent's own`,
  });
}

/**
 * What whoever may run tasks may submit. Strict, as what is stored and offered is not: a field that a later client means
 * and this version would leave out may be the user a script is to run as.
 */
export const runSpecSchema = z
  .discriminatedUnion("kind", [
    scriptSpecSchema
      .extend({
        isolation: isolationSchema.strict().optional(),
        files: attachmentsOf(attachmentSchema.strict()).optional(),
      })
      .strict(),
    noopSpecSchema.strict(),
  ])
  .superRefine(refineScript)
  .superRefine(refineSubmitted);
export const taskSpecSchema = z
  .discriminatedUnion("kind", [scriptSpecSchema, noopSpecSchema, updateSpecSchema])
  .superRefine(refineScript);
export type TaskSpec = z.infer<typeof taskSpecSchema>;
export type ScriptSpec = z.infer<typeof scriptSpecSchema>;

/** Credit lanes: `system` work (checks, updates) never waits behind `work`. */
export const lanes = ["work", "system"] as const;
export const laneSchema = z.enum(lanes);
export type Lane = z.infer<typeof laneSchema>;

export const streams = ["out", "err"] as const;
export const streamSchema = z.enum(streams);
export type Stream = z.infer<typeof streamSchema>;
