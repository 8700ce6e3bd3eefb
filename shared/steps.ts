// Names the moments between which a process may die: each frame sent or received, each record synced, each statement
// answered, each act on an attempt. Told on Node's diagnostics channel `holdfast:step`, where nobody listens in production.
// Invariant: telling changes nothing; names are made from message, record, statement and effect kinds, so that new code
// has its steps without a list to keep.
import { channel } from "node:diagnostics_channel";

const steps = channel("holdfast:step");

export type StepKind =
  /** A frame is about to be handed to the socket, and was. */
  | "sending"
  | "sent"
  | "received"
  /** A journal record waits for its sync, and is on disk. */
  | "recording"
  | "recorded"
  /** A statement is about to go to the database, and its answer (of a commit, too) is here. */
  | "asking"
  | "answered"
  /** An effect on an attempt's files and processes. */
  | "performing"
  | "performed";

export function reached(kind: StepKind, what: string): void {
  if (steps.hasSubscribers) steps.publish(`${kind} ${what}`);
}
