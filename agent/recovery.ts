// What a starting agent does about each attempt its journal or its disk knows: the recovery table of DESIGN section 4
// as one pure function. Gathering the evidence is folder.ts's and process-tree.ts's work.
// Invariant: after STARTING, nothing is started again unless the gate is still open on the same host boot.
import type { NeverEnding } from "./attempt-folder.ts";
import type { SeenExit } from "./exit.ts";

export interface Evidence {
  readonly journal: "none" | "intent" | "starting" | "cancelling";
  /** Whether STARTING (or, without one, INTENT) was written under the boot id the host has now. */
  readonly hostBoot: "same" | "other";
  /** `never`: the gate was won to declare it never started; `unclear`: won, but nobody has signed yet. */
  readonly marker: "none" | "never" | "unclear" | "shim";
  /** What a `never` marker says of the reason. */
  readonly declared?: NeverEnding | undefined;
  /** By pid and start time, never by pid alone. */
  readonly shim: "alive" | "dead";
  readonly exit: SeenExit | undefined;
}

export type RecoveryAction =
  | { readonly kind: "finished"; readonly exit: SeenExit }
  /** Queue it for a slot, then through the gate. */
  | { readonly kind: "start" }
  | { readonly kind: "start-again" }
  | { readonly kind: "adopt" }
  /** The shim won the gate and is about to sign: look again for a few seconds, then it is interrupted. */
  | { readonly kind: "await-shim" }
  | { readonly kind: "interrupted"; readonly reason: string }
  /** It never started and never will: the gate is, or is to be, won for that. */
  | { readonly kind: "never-started"; readonly ending?: NeverEnding | undefined }
  /** Kill the tree; the cancel was recorded before the agent died. */
  | { readonly kind: "finish-cancel" }
  /** Runs, and no journal knows it: report it, leave it running. */
  | { readonly kind: "orphan" }
  | { readonly kind: "ignore" };

export function recover(evidence: Evidence): RecoveryAction {
  const { journal, hostBoot, marker, shim, exit } = evidence;
  if (journal === "none")
    return hostBoot === "same" && marker === "shim" && shim === "alive" ? { kind: "orphan" } : { kind: "ignore" };
  if (exit !== undefined) return { kind: "finished", exit };
  // Whoever declared it died before the result was in the journal; the marker says what the result was to be.
  if (marker === "never") return { kind: "never-started", ending: evidence.declared };
  if (journal === "cancelling") {
    if (marker === "none") return { kind: "never-started" };
    return hostBoot === "same" ? { kind: "finish-cancel" } : { kind: "interrupted", reason: "host-reboot" };
  }
  if (journal === "intent" && marker === "none") return { kind: "start" };
  if (hostBoot === "other") return { kind: "interrupted", reason: "host-reboot" };
  switch (marker) {
    case "none":
      return { kind: "start-again" };
    case "unclear":
      return { kind: "await-shim" };
    case "shim":
      return shim === "alive" ? { kind: "adopt" } : { kind: "interrupted", reason: "shim-died" };
  }
}
