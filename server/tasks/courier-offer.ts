// Packs claimed attempts into offer frames: at most 64 items and about half a frame of specs each.
import type { JournalId } from "../../shared/ids.ts";
import { taskSpecSchema } from "../../shared/task.ts";
import { itemsPerMessage } from "../../shared/wire/fields.ts";
import type { Offer, OfferItem } from "../../shared/wire/offer.ts";
import type { ClaimedAttempt } from "../store/claim-attempts.ts";

/** Within this time of receipt, suspend included, the agent may still accept. Milliseconds. */
const startWindowMs = 60_000;
const specBytesPerFrame = 512 * 1024;

export function offerMessages(journalId: JournalId, attempts: readonly ClaimedAttempt[]): Offer[] {
  const messages: Offer[] = [];
  let items: OfferItem[] = [];
  let bytes = 0;
  const flush = (): void => {
    if (items.length > 0) messages.push({ type: "offer", items });
    items = [];
    bytes = 0;
  };
  for (const claimed of attempts) {
    if (items.length >= itemsPerMessage || (bytes > 0 && bytes + claimed.spec.length > specBytesPerFrame)) flush();
    const { attempt, task, attemptNumber, offerNo, lane } = claimed;
    items.push({
      attempt,
      task,
      attemptNumber,
      offerNo,
      journalId,
      lane,
      startWindowMs,
      spec: taskSpecSchema.parse(JSON.parse(claimed.spec)),
    });
    bytes += claimed.spec.length;
  }
  flush();
  return messages;
}
