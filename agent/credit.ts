// The arithmetic of `ready`: how much each session may still be offered. Pure.
// Invariant: credit is cumulative per session and never taken back; while a slot is free every session has at least one.
import type { Lane } from "../shared/task.ts";

export interface Credit {
  /** Told to the node: it may have offered this many altogether. */
  readonly granted: number;
  /** Offers that arrived. */
  readonly used: number;
}

export type Credits = Readonly<Record<Lane, Credit>>;

export const noCredit: Credits = { work: { granted: 0, used: 0 }, system: { granted: 0, used: 0 } };

/** What each of `sessions` may have outstanding while `free` slots are free. */
export function shareOf(free: number, sessions: number): number {
  if (free <= 0 || sessions <= 0) return 0;
  return Math.max(1, Math.floor(free / sessions));
}

/** Raises the grant so that `share` offers are outstanding; never lowers it. */
export function topUp(credit: Credit, share: number): Credit {
  const granted = Math.max(credit.granted, credit.used + share);
  return granted === credit.granted ? credit : { ...credit, granted };
}

export function spend(credit: Credit): Credit {
  return { ...credit, used: credit.used + 1 };
}
