// The courier's decisions for one session: a pure step from state and event to state and effects (DESIGN 4).
// It owns no execution: every verdict on an attempt comes from the database, every start from the agent.
// The session's maps are changed in place; nobody else holds them.
import { AppError } from "../../shared/errors.ts";
import type { AttemptId } from "../../shared/ids.ts";
import { lanes, type Lane } from "../../shared/task.ts";
import { closeCode } from "../../shared/wire/close-code.ts";
import { itemsPerMessage } from "../../shared/wire/fields.ts";
import type { FromAgent } from "../../shared/wire/from-agent.ts";
import { capability } from "../../shared/wire/hello.ts";
import { nodeCapability } from "../../shared/wire/welcome.ts";
import { negotiate, ownProtocols } from "../../shared/wire/version.ts";
import { appended, finished, logFrame, resumed } from "./courier-log.ts";
import { packOffers, type OfferedAttempt } from "./courier-offer.ts";
import { answered, forget, isLaden, remember } from "./courier-unanswered.ts";
import type { CourierEffect, CourierEvent, CourierState, CourierStep, OpenSession } from "./courier-state.ts";
import { reconcile, type Reconciliation } from "./reconcile.ts";

/** An offer unanswered this long makes the session suspect. Milliseconds; the database's window is at least as long. */
const suspectAfterMs = 3_000;

/** The greatest `--slots` of an agent; only people may set more. */
const ownSlots = 64;
/** What waits on an agent for a lock or a slot (100), and the system lane. */
const besidesSlots = 128;

/** Told to every agent. */
const capabilities: string[] = Object.values(nodeCapability);

export const initialCourier: CourierState = { kind: "awaiting-hello" };

/** `atMs` is the node's monotonic time of the event. */
export function stepCourier(state: CourierState, event: CourierEvent, atMs: number): CourierStep {
  if (event.kind === "closed") return ended(state);
  switch (state.kind) {
    case "closed":
      return { state, effects: event.kind === "claimed" ? [releaseOf(event.attempts)] : [] };
    case "awaiting-hello":
      return event.kind === "frame" ? firstFrame(state, event.message) : { state, effects: [] };
    case "judging":
      if (event.kind === "greeted") return judged(state.hello, event.outcome);
      return event.kind === "frame" ? outOfOrder(event.message) : { state, effects: [] };
    case "reconciling":
      if (event.kind === "frame") return outOfOrder(event.message);
      return event.kind === "reconciled" ? welcomed(state, event) : { state, effects: [] };
    case "open":
      return { state, effects: openEffects(state.session, event, atMs) };
  }
}

/** Offers the session may still be sent on a lane, besides those of `bytesAside` on their way. Zero while it is suspect. */
export function claimable(state: CourierState, lane: Lane, bytesAside = 0): number {
  if (state.kind !== "open" || state.session.trust === "suspect" || isLaden(state.session, bytesAside)) return 0;
  const { granted, offered } = state.session.credit[lane];
  return Math.max(0, Math.min(granted - offered, mostOf(state.session) - state.session.offers.size));
}

/** Unanswered offers, and open attempts whose log and result come through the session. */
export function loadOf(state: CourierState): number {
  if (state.kind !== "open") return 0;
  return Math.min(state.session.offers.size + state.session.openHomes, mostOf(state.session));
}

/**
 * What one agent can have under way, and so may leave unanswered and counts for at most, whatever it says: an agent that
 * names all it ever ran must not fill its node, and a claim is one statement for all agents, whose numbers have four bytes.
 */
function mostOf({ slots }: OpenSession): number {
  return Math.max(ownSlots, slots ?? 0) + besidesSlots;
}

function firstFrame(state: CourierState, message: FromAgent): CourierStep {
  if (state.kind !== "awaiting-hello" || message.type !== "hello") return outOfOrder(message);
  if (negotiate(message.protocols) === undefined) {
    const reason = `protocol ${message.protocols.min}-${message.protocols.max} offered, ${ownProtocols.min}-${ownProtocols.max} served`;
    return closing(closeCode.unsupported, reason);
  }
  return { state: { kind: "judging", hello: message }, effects: [{ kind: "greet", hello: message }] };
}

type Judging = Extract<CourierState, { kind: "judging" }>["hello"];

function judged(hello: Judging, outcome: Extract<CourierEvent, { kind: "greeted" }>["outcome"]): CourierStep {
  switch (outcome.kind) {
    case "admitted":
      return {
        state: { kind: "reconciling", hello, slots: outcome.slots ?? null },
        effects: [{ kind: "reconcile", listed: hello.attempts }],
      };
    case "superseded":
      return closing(closeCode.superseded, `superseded: expected ${outcome.expected}, seen ${hello.bootCounter}`);
    case "quarantined":
      return closing(closeCode.quarantined, `quarantined: ${outcome.reason}`);
    case "revoked":
    case "removed":
      return closing(closeCode.refused, `${outcome.kind}: ${outcome.reason}`);
  }
}

function welcomed(
  { hello, slots }: Extract<CourierState, { kind: "reconciling" }>,
  event: Extract<CourierEvent, { kind: "reconciled" }>,
): CourierStep {
  const protocol = negotiate(hello.protocols);
  if (protocol === undefined) throw new AppError("internal", "a hello without a common protocol was admitted");
  const found = reconcile({ journalId: hello.journalId, listed: hello.attempts, rows: event.rows });
  const welcome: CourierEffect = {
    kind: "send",
    message: { type: "welcome", protocol, ...event.welcome, verdicts: found.verdicts, slots, capabilities },
  };
  if (hello.probe === true) {
    return {
      state: { kind: "closed" },
      effects: [welcome, { kind: "close", code: closeCode.goingAway, reason: "probe answered" }],
    };
  }
  const session: OpenSession = {
    bootId: hello.bootId,
    journalId: hello.journalId,
    capabilities: new Set(hello.capabilities),
    credit: { work: { granted: 0, offered: 0 }, system: { granted: 0, offered: 0 } },
    offers: new Map(),
    offeredBytes: 0,
    homes: new Map(),
    openHomes: 0,
    trust: "trusted",
    slots,
  };
  const effects: CourierEffect[] = [welcome, { kind: "opened" }];
  if (found.reached.length > 0) effects.push({ kind: "progress", items: found.reached });
  if (found.collected.length > 0) effects.push({ kind: "lose", attempts: found.collected, answer: "collected" });
  effects.push(...asking(found));
  return { state: { kind: "open", session }, effects };
}

/** Cancels and inquiries that rows give rise to. */
function asking(found: Pick<Reconciliation, "cancels" | "inquiries">): CourierEffect[] {
  const effects: CourierEffect[] = [];
  for (const items of chunks(found.cancels)) effects.push({ kind: "send", message: { type: "cancel", items } });
  for (const items of chunks(found.inquiries)) effects.push({ kind: "send", message: { type: "inquire", items } });
  return effects;
}

function openEffects(session: OpenSession, event: CourierEvent, atMs: number): CourierEffect[] {
  switch (event.kind) {
    case "frame": {
      const effects = frameEffects(session, event.message);
      if (session.trust === "trusted") return effects;
      session.trust = "trusted";
      return [...effects, { kind: "claimable" }];
    }
    case "reread":
      return asking(reconcile({ journalId: session.journalId, listed: [], rows: event.rows }));
    case "claimed":
      return claimedEffects(session, event.attempts, atMs);
    case "progressed": {
      const cancels = event.answers.flatMap(({ attempt, view }) =>
        view.kind === "row" && view.cancelRequested && !view.byAgent ? [{ attempt, graceMs: view.graceMs }] : [],
      );
      return chunks(cancels).map((items) => ({ kind: "send", message: { type: "cancel", items } }));
    }
    case "appended":
      return appended(session, event);
    case "finished":
      return finished(session, event);
    case "resumed":
      return resumed(session, event);
    case "cancel":
      return chunks(event.items).map((items) => ({ kind: "send", message: { type: "cancel", items } }));
    case "nodes":
      return [{ kind: "send", message: { type: "nodes", ...event.list } }];
    case "settings":
      session.slots = event.slots;
      if (!session.capabilities.has(capability.slots)) return [];
      return [{ kind: "send", message: { type: "settings", slots: event.slots } }];
    case "go-away":
      return [{ kind: "send", message: { type: "go-away", afterMs: event.afterMs, reason: event.reason } }];
    case "alive":
      return trustAgain(session, atMs);
    case "tick":
      return tick(session, atMs);
    case "greeted":
    case "reconciled":
    case "closed":
      return [];
  }
}

/** Offers go to the journal they were claimed for; when another one greeted meanwhile they are released, never moved. */
function claimedEffects(session: OpenSession, claimed: readonly OfferedAttempt[], atMs: number): CourierEffect[] {
  const isMine = ({ journalId = session.journalId }: OfferedAttempt): boolean => journalId === session.journalId;
  const others = claimed.filter((attempt) => !isMine(attempt));
  const { messages, bytes, unfit } = packOffers(session, claimed.filter(isMine));
  const bytesOf = ({ attempt }: { readonly attempt: AttemptId }): number => bytes.get(attempt) ?? 0;
  for (const item of messages.flatMap((message) => message.items)) {
    const { attempt, offerNo, lane } = item;
    session.credit[lane].offered += 1;
    remember(session, attempt, { offerNo, lane, sentAtMs: atMs, bytes: bytesOf(item) });
  }
  const effects: CourierEffect[] = messages.map((message) => ({
    kind: "send",
    message,
    bytes: message.items.reduce((sum, item) => sum + bytesOf(item), 0),
  }));
  if (others.length > 0) effects.push(releaseOf(others));
  for (const items of chunks(unfit)) {
    effects.push({
      kind: "refuse",
      items: items.map(({ claimed: { attempt, offerNo }, reason, why }) => ({
        attempt,
        offerNo,
        class: "never",
        reason,
        detail: why,
      })),
    });
  }
  return effects;
}

function frameEffects(session: OpenSession, message: FromAgent): CourierEffect[] {
  switch (message.type) {
    case "hello":
      return [{ kind: "close", code: closeCode.protocolError, reason: "hello twice" }];
    case "ready":
      for (const lane of lanes) session.credit[lane].granted = Math.max(session.credit[lane].granted, message[lane]);
      return [{ kind: "claimable" }];
    case "accept":
      return [
        ...answered(session, message.items),
        {
          kind: "progress",
          items: message.items.map(({ attempt, homeNo }) => ({ attempt, homeNo, homeHere: true, reached: "accepted" })),
        },
      ];
    case "refuse":
      return [...answered(session, message.items), { kind: "refuse", items: message.items }];
    case "state":
      return stateEffects(session, message.items);
    case "started":
      return [
        {
          kind: "progress",
          items: message.items.map(({ attempt, homeNo }) => ({ attempt, homeNo, homeHere: true, reached: "running" })),
        },
      ];
    case "progress":
      return [{ kind: "note-progress", items: message.items }];
    case "log":
      return logFrame(session, message);
    case "result":
      return [...answered(session, message.items), { kind: "finish", items: message.items }];
    case "resume":
      return [{ kind: "resume", items: message.items }];
    case "renew":
      return [{ kind: "renew", spki: message.spki, proof: message.proof }];
  }
}

function stateEffects(session: OpenSession, items: Extract<FromAgent, { type: "state" }>["items"]): CourierEffect[] {
  const effects = answered(session, items);
  for (const { attempt, state, homeNo, homeHere } of items) {
    if (state === "accepted" || state === "running")
      effects.push({ kind: "progress", items: [{ attempt, homeNo, homeHere, reached: state }] });
    else if (state === "unknown" || state === "collected")
      effects.push({ kind: "lose", attempts: [attempt], answer: state });
    // finished: its result is on the way by itself.
  }
  return effects;
}

function tick(session: OpenSession, atMs: number): CourierEffect[] {
  if (session.trust === "suspect") return [];
  for (const offer of session.offers.values()) {
    if (atMs - offer.sentAtMs < suspectAfterMs) continue;
    session.trust = "suspect";
    return [{ kind: "ping" }];
  }
  return [];
}

/**
 * Silent on an offer, but alive: an agent that is idle sends no message of its own, and must not wait for one for ever. What
 * it left unanswered is the database's again when its window ends.
 */
function trustAgain(session: OpenSession, atMs: number): CourierEffect[] {
  if (session.trust === "trusted") return [];
  session.trust = "trusted";
  for (const [attempt, offer] of session.offers) if (atMs - offer.sentAtMs >= suspectAfterMs) forget(session, attempt);
  return [{ kind: "claimable" }];
}

function ended(state: CourierState): CourierStep {
  if (state.kind !== "open") return { state: { kind: "closed" }, effects: [] };
  const offers = [...state.session.offers].map(([attempt, { offerNo }]) => ({ attempt, offerNo }));
  return { state: { kind: "closed" }, effects: offers.length > 0 ? [{ kind: "release", offers }] : [] };
}

function releaseOf(attempts: readonly { readonly attempt: AttemptId; readonly offerNo: number }[]): CourierEffect {
  return { kind: "release", offers: attempts.map(({ attempt, offerNo }) => ({ attempt, offerNo })) };
}

function closing(code: number, reason: string): CourierStep {
  return { state: { kind: "closed" }, effects: [{ kind: "close", code, reason }] };
}

function outOfOrder(message: FromAgent): CourierStep {
  return closing(closeCode.protocolError, `${message.type} before the greeting was complete`);
}

export function chunks<T>(items: readonly T[], size = itemsPerMessage): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );
}
