// Gathers what recovery.ts decides on: the journal's word, the host's boot, the gate's marker, the shim, the exit.
import type { AttemptFolder } from "./attempt-folder.ts";
import type { JournaledAttempt } from "./journal-state.ts";
import type { Evidence } from "./recovery.ts";
import type { ShimMark } from "./shim-report.ts";

export interface EvidenceFacts {
  readonly hostBootId: string;
  /** By pid and start time, never by pid alone. */
  readonly isAlive: (mark: ShimMark) => boolean;
}

export function gatherEvidence(
  folder: Pick<AttemptFolder, "marker" | "exit">,
  journaled: JournaledAttempt | undefined,
  { hostBootId, isAlive }: EvidenceFacts,
): Evidence {
  // The exit is read last: a script that ends while we look is finished, not vanished.
  const marker = folder.marker();
  const startingOn = journaled?.startingOn;
  const shim = marker.kind === "shim" && isAlive(marker.mark) ? "alive" : "dead";
  return {
    journal: phaseOf(journaled),
    hostBoot: startingOn === undefined || startingOn === hostBootId ? "same" : "other",
    marker: marker.kind,
    declared: marker.kind === "never" ? marker.ending : undefined,
    shim,
    exit: folder.exit()?.exit,
  };
}

function phaseOf(journaled: JournaledAttempt | undefined): Evidence["journal"] {
  if (journaled === undefined) return "none";
  if (journaled.cancelGraceMs !== undefined) return "cancelling";
  return journaled.startingOn === undefined ? "intent" : "starting";
}
