// The offers of a session that have no answer yet, and their bytes: whatever adds or takes one does it here, so that the sum
// stays that of what is there.
import type { AttemptId } from "../../shared/ids.ts";
import type { CourierEffect, OpenSession, OutstandingOffer } from "./courier-state.ts";

/**
 * What one agent may be offered and leave unanswered; the claim that reaches it is the last one. Whoever does not read, or
 * reads slowly, makes its node hold this and what one claim brings, however many large tasks wait for it.
 */
export const mostOfferedBytes = 4 * 1024 * 1024;

type Unanswered = Pick<OpenSession, "offers" | "offeredBytes">;

/** The agent is offered no more until it answers; `bytesAside` count as if they were offered. */
export function isLaden({ offeredBytes }: Unanswered, bytesAside = 0): boolean {
  return offeredBytes + bytesAside >= mostOfferedBytes;
}

/** An offer made again takes the place of the one before it. */
export function remember(session: Unanswered, attempt: AttemptId, offer: OutstandingOffer): void {
  forget(session, attempt);
  session.offers.set(attempt, offer);
  session.offeredBytes += offer.bytes;
}

export function forget(session: Unanswered, attempt: AttemptId): void {
  session.offeredBytes -= session.offers.get(attempt)?.bytes ?? 0;
  session.offers.delete(attempt);
}

/** These offers have an answer. Where their bytes kept the agent from more, more can be claimed for it again. */
export function answered(session: Unanswered, items: readonly { readonly attempt: AttemptId }[]): CourierEffect[] {
  const wasLaden = isLaden(session);
  for (const { attempt } of items) forget(session, attempt);
  return wasLaden && !isLaden(session) ? [{ kind: "claimable" }] : [];
}
