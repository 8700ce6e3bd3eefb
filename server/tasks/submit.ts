// Submitting: a selector expands once, ids are chosen first, one statement stores everything, and only then an offer may
// leave. When the COMMIT's outcome is unknown nothing is sent: the rows are looked for by key for 2 s.
// A key that was stored is answered with what it stored, also when the agents it named are gone by now.
import type { Selector } from "../../shared/api/selector.ts";
import { selects } from "../../shared/api/selector.ts";
import type { Clock } from "../../shared/clock.ts";
import { AppError } from "../../shared/errors.ts";
import {
  attemptIdSchema,
  newId,
  submissionIdSchema,
  taskIdSchema,
  type AgentId,
  type IdSource,
  type NodeId,
  type TaskId,
} from "../../shared/ids.ts";
import { secretBytes, secretLimits, type Secret } from "../../shared/secret.ts";
import { limits, type Lane, type TaskSpec } from "../../shared/task.ts";
import type { Target } from "../store/agents.ts";
import { offerWindowMs } from "../store/claim-attempts.ts";
import type { CourierStore } from "../store/store.ts";
import {
  bands,
  type NewSubmission,
  type NewTask,
  type QueueRefusal,
  type SubmitOutcome,
} from "../store/submit-tasks.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { SecretVault } from "./secret-vault.ts";

interface Work {
  readonly spec: TaskSpec;
  readonly secrets?: readonly Secret[] | undefined;
}

export interface SubmitRequest {
  readonly key: string;
  /** SHA-256 of the request without its secrets' values, hex: the same key with another one, or other values, is refused. */
  readonly digest: string;
  readonly work:
    ({ readonly selector: Selector } & Work) | { readonly items: readonly ({ readonly on: string } & Work)[] };
  readonly queueTimeoutMs: number | undefined;
  readonly unreachableLimitMs: number | undefined;
  readonly lane: Lane;
  /** Default normal. */
  readonly priority?: "normal" | "high" | undefined;
  /** Default queue; `refuse` stores nothing when an agent has no session on any live node. */
  readonly ifOffline?: "queue" | "refuse" | undefined;
}

export interface Submitter {
  readonly id: string;
  readonly address: string;
}

export interface SubmitDeps {
  readonly store: Pick<CourierStore, "submit">;
  readonly vault: Pick<SecretVault, "seal" | "digest">;
  readonly dispatcher: Pick<Dispatcher, "reserve" | "settle" | "mayHaveWork">;
  readonly targets: TargetSource;
  readonly earlier: (
    key: Pick<NewSubmission, "principal" | "idempotencyKey">,
  ) => Promise<EarlierSubmission | undefined>;
  readonly ids: IdSource;
  readonly clock: Clock;
  /** Which of these have no session on any live node. */
  readonly offline: (agents: readonly AgentId[]) => Promise<readonly AgentId[]>;
  /** Other nodes may have sessions with these agents. */
  readonly hint: (agents: readonly AgentId[]) => void;
}

export interface EarlierSubmission {
  readonly id: NewSubmission["id"];
  /** As of the request. */
  readonly digest: string;
  readonly tasks: readonly { readonly id: TaskId; readonly agent: AgentId }[];
}

export interface TargetSource {
  all(): Promise<readonly Target[]>;
  named(names: readonly string[]): Promise<readonly Target[]>;
  /** Names of agents by id, for agents that may be gone. */
  nameOf(agents: readonly AgentId[]): Promise<ReadonlyMap<AgentId, string>>;
}

export interface Submitted {
  readonly id: string;
  readonly tasks: { readonly id: string; readonly agent: string }[];
  readonly repeated: boolean;
}

const defaults = { queueMs: 86_400_000, unreachableMs: 86_400_000 } as const;
const outcomeWaitMs = 2_000;
const outcomePollMs = 100;

interface Planned {
  readonly task: NewTask;
  readonly name: string;
}

export async function submit(deps: SubmitDeps, node: NodeId, given: SubmitRequest, by: Submitter): Promise<Submitted> {
  const request = { ...given, digest: boundDigest(deps, given) };
  let planned: Planned[];
  try {
    planned = await plan(deps, request);
  } catch (cause) {
    // A sender who missed the answer must not hear that nothing was stored, only because an agent is gone by now.
    const stored = await answerEarlier(deps, request, by);
    if (stored === undefined) throw cause;
    return stored;
  }
  const submission: NewSubmission = {
    id: newId(deps.ids, submissionIdSchema),
    principal: by.id,
    idempotencyKey: request.key,
    bodySha256: Buffer.from(request.digest, "hex"),
    clientAddress: by.address,
    node,
    offerWindowMs: offerWindowMs.first,
    tasks: planned.map(({ task }) => task),
  };
  let outcome: SubmitOutcome | undefined;
  try {
    outcome = await deps.store.submit(submission);
  } catch (cause) {
    await findOutcome(deps, submission, cause);
    // The commit had happened; what was meant to be offered at once goes through the claim instead.
    release(deps, submission, undefined);
    return answer(submission.id, planned, false);
  }
  release(deps, submission, outcome);
  switch (outcome.kind) {
    case "stored": {
      const { offered } = outcome;
      const queued = submission.tasks.filter((task) => !offered.has(task.attempt)).map((task) => task.agent);
      if (queued.length > 0) deps.hint([...new Set(queued)]);
      return answer(submission.id, planned, false);
    }
    case "repeated":
      return await repeated(deps, outcome);
    case "mismatch":
      throw otherRequest(request);
    case "full":
      throw queueFull(outcome.refusal, planned);
  }
}

/**
 * What the key stored before, whatever holds by now; undefined when nothing. The digest is as of the whole request, values of
 * secrets included. Throws `idempotency.mismatch`.
 */
export async function answerEarlier(
  deps: Pick<SubmitDeps, "earlier" | "targets">,
  request: Pick<SubmitRequest, "key" | "digest">,
  by: Pick<Submitter, "id">,
): Promise<Submitted | undefined> {
  const stored = await deps.earlier({ principal: by.id, idempotencyKey: request.key });
  if (stored === undefined) return undefined;
  if (stored.digest !== request.digest) throw otherRequest(request);
  return repeated(deps, stored);
}

async function repeated(
  deps: Pick<SubmitDeps, "targets">,
  { id, tasks }: Pick<EarlierSubmission, "id" | "tasks">,
): Promise<Submitted> {
  const names = await deps.targets.nameOf(tasks.map((task) => task.agent));
  return {
    id,
    tasks: tasks.map((task) => ({ id: task.id, agent: names.get(task.agent) ?? task.agent })),
    repeated: true,
  };
}

function otherRequest({ key }: Pick<SubmitRequest, "key">): AppError {
  return new AppError("idempotency.mismatch", `the idempotency key ${key} was used for another request`);
}

/** What waits drains at the agents' pace: seconds, not milliseconds. */
export const queueRetrySeconds = 5;

function queueFull({ bound, agent, queued, wanted, most }: QueueRefusal, planned: readonly Planned[]): AppError {
  const name = planned.find(({ task }) => task.agent === agent)?.name ?? agent;
  const where = bound === "agent" ? `for agent ${name}` : "in the cluster";
  if (wanted > most) {
    // Waiting would not help: it does not fit an empty queue either.
    const message = `the submission queues ${wanted} tasks ${where}; at most ${most} may wait`;
    return new AppError("request.invalid", message, { mend: `Send at most ${most} of them in one submission.` });
  }
  return new AppError(
    "queue.full",
    `${queued} tasks wait ${where} and the submission adds ${wanted}; at most ${most} may wait`,
    { retryAfterSeconds: queueRetrySeconds },
  );
}

async function plan(deps: SubmitDeps, request: SubmitRequest): Promise<Planned[]> {
  const pairs = await expand(deps.targets, request.work);
  if (pairs.length > limits.tasksPerSubmission) {
    throw new AppError(
      "request.invalid",
      `the selector means ${pairs.length} agents; at most ${limits.tasksPerSubmission} tasks in one submission`,
    );
  }
  if (request.ifOffline === "refuse") await refuseOffline(deps, pairs);
  // All texts first: what is refused for one task must not have set credit aside for another.
  const texts = new Map<TaskSpec, string>();
  for (const { spec } of pairs) if (!texts.has(spec)) texts.set(spec, specText(spec));
  refuseLarge(pairs.map(({ spec }) => texts.get(spec) ?? ""));
  refuseTooMuch(pairs);
  return pairs.map(({ target, spec, secrets: open = [] }) => {
    const task = newId(deps.ids, taskIdSchema);
    const names = open.map(({ name }) => name);
    const secrets = names.length === 0 ? undefined : { names, sealed: deps.vault.seal(task, open) };
    const text = texts.get(spec) ?? "";
    return {
      name: target.name,
      task: {
        task,
        secrets,
        attempt: newId(deps.ids, attemptIdSchema),
        agent: target.id,
        lane: request.lane,
        band: bands[request.priority ?? "normal"],
        spec: text,
        queueMs: request.queueTimeoutMs ?? defaults.queueMs,
        unreachableLimitMs: request.unreachableLimitMs ?? defaults.unreachableMs,
        offer: deps.dispatcher.reserve(target.id, request.lane, offerBytes({ spec: text, secrets })),
      },
    };
  });
}

/** What the task's offer takes in the node's memory. */
function offerBytes({ spec, secrets }: Pick<Planned["task"], "spec" | "secrets">): number {
  return Buffer.byteLength(spec) + (secrets?.sealed.byteLength ?? 0);
}

/** Requests without secrets keep the plain digest, by which nodes of the version before know them. */
function boundDigest(deps: SubmitDeps, { digest, work }: SubmitRequest): string {
  const secrets = "items" in work ? work.items.map((item) => item.secrets ?? []) : [work.secrets ?? []];
  return secrets.every((some) => some.length === 0) ? digest : deps.vault.digest(digest, secrets);
}

/** Each task has a copy of its own, and all of them are one statement, which others' submissions wait for. */
function refuseLarge(texts: readonly string[]): void {
  const bytes = texts.reduce((sum, text) => sum + text.length, 0);
  if (bytes <= limits.submissionBytes) return;
  const message = `the ${texts.length} tasks take ${bytes} bytes together; at most ${limits.submissionBytes}`;
  throw new AppError("request.invalid", message, { mend: "Send them in several submissions." });
}

/** Each task has a sealed copy of its own, and all of them are one statement. */
function refuseTooMuch(pairs: readonly Work[]): void {
  const bytes = pairs.reduce((sum, { secrets = [] }) => sum + secretBytes(secrets), 0);
  if (bytes <= secretLimits.submissionBytes) return;
  const message = `the secrets of all ${pairs.length} tasks take ${bytes} bytes; at most ${secretLimits.submissionBytes}`;
  throw new AppError("request.invalid", message, { mend: "Send the tasks in several submissions." });
}

const namedAtMost = 5;

async function refuseOffline(deps: SubmitDeps, pairs: readonly { readonly target: Target }[]): Promise<void> {
  const offline = new Set(await deps.offline([...new Set(pairs.map(({ target }) => target.id))]));
  if (offline.size === 0) return;
  const names = [...new Set(pairs.filter(({ target }) => offline.has(target.id)).map(({ target }) => target.name))];
  const shown = names.slice(0, namedAtMost).join(", ");
  const more = names.length > namedAtMost ? ` and ${names.length - namedAtMost} more` : "";
  throw new AppError("agent.offline", `no live node has a session with ${shown}${more}; nothing was stored`);
}

async function expand(targets: TargetSource, work: SubmitRequest["work"]): Promise<({ target: Target } & Work)[]> {
  if ("items" in work) {
    const names = [...new Set(work.items.map((item) => item.on))];
    const found = byName(await targets.named(names));
    return work.items.map(({ on, spec, secrets }) => ({ target: known(found, on), spec, secrets }));
  }
  const { selector, spec, secrets } = work;
  if (selector.kind === "names") {
    const found = byName(await targets.named(selector.names));
    return selector.names.map((name) => ({ target: known(found, name), spec, secrets }));
  }
  const chosen = (await targets.all()).filter((target) => selects(selector, target));
  if (chosen.length === 0) throw new AppError("selector.empty", "no active agent has these labels");
  return chosen.map((target) => ({ target, spec, secrets }));
}

function byName(found: readonly Target[]): ReadonlyMap<string, Target> {
  return new Map(found.flatMap((target) => [[target.id, target] as const, [target.name, target] as const]));
}

function known(found: ReadonlyMap<string, Target>, name: string): Target {
  const target = found.get(name);
  if (target === undefined) throw new AppError("agent.unknown", `no active agent is called ${name}`);
  return target;
}

function specText(spec: TaskSpec): string {
  const text = JSON.stringify(spec);
  const bytes = Buffer.byteLength(text);
  if (bytes > limits.specBytes)
    throw new AppError("script.too-large", `the encoded task takes ${bytes} bytes; at most ${limits.specBytes}`);
  return text;
}

/**
 * Resolves when the submission turns out to be stored; throws when it is not, or when nobody can tell. "Not there" proves
 * nothing at once: the lost connection's commit may still be under way in the database.
 */
async function findOutcome(deps: SubmitDeps, submission: NewSubmission, cause: unknown): Promise<void> {
  const error = AppError.from(cause);
  const endMs = deps.clock.monotonicMs() + outcomeWaitMs;
  while (error.code === "database.unavailable" && deps.clock.monotonicMs() < endMs) {
    const found = await deps.earlier(submission).catch(() => undefined);
    if (found?.id === submission.id) return;
    await deps.clock.sleep(outcomePollMs);
  }
  release(deps, submission, undefined);
  if (error.code !== "database.unavailable") throw error;
  throw new AppError(
    "submission.outcome-unknown",
    `whether submission ${submission.id} was stored is not known: ${error.message}`,
    { cause, retryAfterSeconds: 2 },
  );
}

function release(deps: SubmitDeps, submission: NewSubmission, outcome: SubmitOutcome | undefined): void {
  const queued: AgentId[] = [];
  for (const { task, attempt, agent, lane, spec, secrets, offer } of submission.tasks) {
    const isOffered = outcome?.kind === "stored" && outcome.offered.has(attempt);
    if (offer !== undefined) {
      deps.dispatcher.settle(
        agent,
        lane,
        offerBytes({ spec, secrets }),
        isOffered
          ? {
              attempt,
              task,
              agent,
              attemptNumber: 1,
              offerNo: 1,
              lane,
              spec,
              journalId: offer.journalId,
              ...(secrets === undefined ? {} : { secretNames: secrets.names, sealedSecrets: secrets.sealed }),
            }
          : undefined,
      );
    } else queued.push(agent);
  }
  deps.dispatcher.mayHaveWork(new Set(queued));
}

function answer(id: string, planned: readonly Planned[], repeated: boolean): Submitted {
  return { id, tasks: planned.map(({ task, name }) => ({ id: task.task, agent: name })), repeated };
}
