// Packs claimed attempts into offer frames: at most 64 items, about half a frame of specs and four fifths of the values
// a pre-scan admits. An attempt that no frame can carry, or whose spec this version does not understand, is set apart:
// sent, it would end the agent's session each time anew; and so is one that the agent would run otherwise than it says.
import { lostFields } from "../../shared/lost-fields.ts";
import { secretBytes, type Secret } from "../../shared/secret.ts";
import { limits, taskSpecSchema, type TaskSpec } from "../../shared/task.ts";
import type { AttemptId, JournalId } from "../../shared/ids.ts";
import { itemsPerMessage } from "../../shared/wire/fields.ts";
import type { Offer, OfferItem } from "../../shared/wire/offer.ts";
import { capability } from "../../shared/wire/hello.ts";
import { prescanLimits } from "../../shared/wire/prescan.ts";
import type { ClaimedAttempt } from "../store/claim-attempts.ts";

/** Within this time of receipt, suspend included, the agent may still accept. Milliseconds. */
const startWindowMs = 60_000;
const specBytesPerFrame = 512 * 1024;
const valuesPerFrame = 16_000;
/** Keys and values of an item and a spec besides arguments and environment; more than there are. */
const fixedValues = 56;
/** The map, its three keys and their values. */
const valuesPerSecret = 7;
const valuesPerFile = 7;

/** A claimed attempt with its secrets opened, or the reason why they cannot be. */
export interface OfferedAttempt extends ClaimedAttempt {
  readonly secrets?: readonly Secret[] | { readonly why: string } | undefined;
}

export interface UnfitAttempt {
  readonly claimed: ClaimedAttempt;
  readonly reason: "invalid" | "unsupported";
  readonly why: string;
}

export interface PackedOffers {
  readonly messages: readonly Offer[];
  /** Of each attempt in them: its spec and its secrets. */
  readonly bytes: ReadonlyMap<AttemptId, number>;
  readonly unfit: readonly UnfitAttempt[];
}

export interface OfferAddressee {
  readonly journalId: JournalId;
  /** Of the agent's hello. */
  readonly capabilities: ReadonlySet<string>;
}

export function packOffers(
  { journalId, capabilities }: OfferAddressee,
  attempts: readonly OfferedAttempt[],
): PackedOffers {
  const messages: Offer[] = [];
  const unfit: UnfitAttempt[] = [];
  const bytesOf = new Map<AttemptId, number>();
  let items: OfferItem[] = [];
  let bytes = 0;
  let values = 0;
  const flush = (): void => {
    if (items.length > 0) messages.push({ type: "offer", items });
    items = [];
    bytes = 0;
    values = 0;
  };
  for (const claimed of attempts) {
    const raw: unknown = JSON.parse(claimed.spec);
    const parsed = taskSpecSchema.safeParse(raw);
    if (!parsed.success) {
      unfit.push({ claimed, reason: "invalid", why: "this version does not understand the spec" });
      continue;
    }
    const lost = lostFields(raw, parsed.data);
    if (lost.length > 0) {
      const why = `this node's version does not know ${lost.join(", ")} of the task: upgrade every node`;
      unfit.push({ claimed, reason: "unsupported", why });
      continue;
    }
    const invalid = unfitness(parsed.data, claimed.spec);
    const unsupported = incapacity(parsed.data, capabilities);
    const why = invalid ?? unsupported;
    if (why !== undefined) {
      unfit.push({ claimed, reason: invalid === undefined ? "unsupported" : "invalid", why });
      continue;
    }
    const refusal = secretRefusal(claimed, capabilities);
    if (refusal !== undefined) {
      unfit.push({ claimed, ...refusal });
      continue;
    }
    const secrets = Array.isArray(claimed.secrets) ? (claimed.secrets as readonly Secret[]) : [];
    const specBytes = Buffer.byteLength(claimed.spec) + secretBytes(secrets);
    const specValues = valuesOf(parsed.data) + secrets.length * valuesPerSecret;
    const isFull =
      items.length >= itemsPerMessage || bytes + specBytes > specBytesPerFrame || values + specValues > valuesPerFrame;
    if (items.length > 0 && isFull) flush();
    const { attempt, task, attemptNumber, offerNo, lane } = claimed;
    items.push({
      attempt,
      task,
      attemptNumber,
      offerNo,
      journalId,
      lane,
      startWindowMs,
      spec: parsed.data,
      ...(secrets.length === 0 ? {} : { secrets: [...secrets] }),
    });
    bytesOf.set(attempt, specBytes);
    bytes += specBytes;
    values += specValues;
  }
  flush();
  return { messages, bytes: bytesOf, unfit };
}

/** An agent that would start it without them, or values that are not there: never offered. */
function secretRefusal(
  { secretNames, secrets }: OfferedAttempt,
  capabilities: ReadonlySet<string>,
): Pick<UnfitAttempt, "reason" | "why"> | undefined {
  if (secretNames === undefined) return undefined;
  if (!capabilities.has(capability.secrets))
    return { reason: "unsupported", why: "this agent's version takes no secrets: update it" };
  if (secrets === undefined) return { reason: "invalid", why: "its secrets are kept no longer: submit it again" };
  return "why" in secrets ? { reason: "invalid", why: secrets.why } : undefined;
}

/** An agent of before these would run a `full` script beside others, or leave out what it does not know, and say nothing. */
function incapacity(spec: TaskSpec, capabilities: ReadonlySet<string>): string | undefined {
  if (spec.kind === "update" && !capabilities.has(capability.update))
    return "this agent's version takes no updates from the cluster: run `holdfast agent update` on its machine";
  if (spec.kind !== "script") return undefined;
  const { isolation, interpreterArgs, files, user } = spec;
  const asksForLock = isolation?.mode === "full" || isolation?.waitMs !== undefined;
  if (asksForLock && !capabilities.has(capability.isolation))
    return "this agent's version keeps no isolation locks: update it";
  if (interpreterArgs !== undefined && !capabilities.has(capability.interpreterArgs))
    return "this agent's version takes no interpreter arguments: update it";
  if (files !== undefined && !capabilities.has(capability.attachments))
    return "this agent's version takes no attached files: update it";
  if (user !== undefined && !capabilities.has(capability.user))
    return "this agent's version runs no script as another user: update it";
  return undefined;
}

function valuesOf(spec: TaskSpec): number {
  if (spec.kind !== "script") return fixedValues;
  const { interpreterArgs = [], files = [], args, env } = spec;
  return (
    fixedValues + valuesPerFile * files.length + interpreterArgs.length + args.length + 2 * Object.keys(env).length
  );
}

function unfitness(spec: TaskSpec, text: string): string | undefined {
  if (Buffer.byteLength(text) > limits.specBytes) return `the spec exceeds ${limits.specBytes} bytes`;
  if (valuesOf(spec) > valuesPerFrame) return "too many arguments and environment variables for one frame";
  const names = spec.kind === "script" ? Object.keys(spec.env) : [];
  const long = names.find((name) => Buffer.byteLength(name) > prescanLimits.keyBytes);
  return long === undefined
    ? undefined
    : `the environment variable name ${long.slice(0, 24)}… exceeds ${prescanLimits.keyBytes} bytes`;
}
