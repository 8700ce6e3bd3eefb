// Packs claimed attempts into offer frames: at most 64 items, about half a frame of specs and four fifths of the values
// a pre-scan admits. An attempt that no frame can carry, or whose spec this version does not understand, is set apart:
// sent, it would end the agent's session each time anew.
import { attachmentsCapability } from "../../shared/attachment.ts";
import { secretBytes, secretsCapability, type Secret } from "../../shared/secret.ts";
import { interpreterArgumentsCapability, limits, taskSpecSchema, type TaskSpec } from "../../shared/task.ts";
import type { JournalId } from "../../shared/ids.ts";
import { itemsPerMessage } from "../../shared/wire/fields.ts";
import type { Offer, OfferItem } from "../../shared/wire/offer.ts";
import { prescanLimits } from "../../shared/wire/prescan.ts";
import type { ClaimedAttempt } from "../store/claim-attempts.ts";

/** Within this time of receipt, suspend included, the agent may still accept. Milliseconds. */
const startWindowMs = 60_000;
const specBytesPerFrame = 512 * 1024;
const valuesPerFrame = 16_000;
/** Keys and values of an item and a spec besides arguments and environment; more than there are. */
const fixedValues = 48;
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
  readonly unfit: readonly UnfitAttempt[];
}

export interface OfferAddressee {
  readonly journalId: JournalId;
  /** As its hello named them. */
  readonly capabilities: readonly string[];
}

export function packOffers(
  { journalId, capabilities }: OfferAddressee,
  attempts: readonly OfferedAttempt[],
): PackedOffers {
  const messages: Offer[] = [];
  const unfit: UnfitAttempt[] = [];
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
    const parsed = taskSpecSchema.safeParse(JSON.parse(claimed.spec));
    const why = parsed.success ? unfitness(parsed.data, claimed.spec) : "this version does not understand the spec";
    if (!parsed.success || why !== undefined) {
      unfit.push({ claimed, reason: "invalid", why: why ?? "" });
      continue;
    }
    const refusal = specRefusal(parsed.data, capabilities) ?? secretRefusal(claimed, capabilities);
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
    bytes += specBytes;
    values += specValues;
  }
  flush();
  return { messages, unfit };
}

/** An agent that would leave out what it does not know, and run something else. */
function specRefusal(
  spec: TaskSpec,
  capabilities: readonly string[],
): Pick<UnfitAttempt, "reason" | "why"> | undefined {
  if (spec.kind !== "script") return undefined;
  const needed = [
    {
      is: spec.interpreterArgs !== undefined,
      capability: interpreterArgumentsCapability,
      what: "interpreter arguments",
    },
    { is: spec.files !== undefined, capability: attachmentsCapability, what: "attached files" },
  ];
  const missing = needed.find(({ is, capability }) => is && !capabilities.includes(capability));
  return missing && { reason: "unsupported", why: `this agent's version takes no ${missing.what}: update it` };
}

/** An agent that would start it without them, or values that are not there: never offered. */
function secretRefusal(
  { secretNames, secrets }: OfferedAttempt,
  capabilities: readonly string[],
): Pick<UnfitAttempt, "reason" | "why"> | undefined {
  if (secretNames === undefined) return undefined;
  if (!capabilities.includes(secretsCapability))
    return { reason: "unsupported", why: "this agent's version takes no secrets: update it" };
  if (secrets === undefined) return { reason: "invalid", why: "its secrets are kept no longer: submit it again" };
  return "why" in secrets ? { reason: "invalid", why: secrets.why } : undefined;
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
