// Which processes of a test get the processor first. Agents and scripts are other machines' work in the field: beside a
// cluster on one machine they get what nodes and database leave.
import { writeFileSync } from "node:fs";
import { setPriority } from "node:os";

const niceness = -15;

/**
 * Before all that have none of this. Linux shares a processor out by sessions ("autogroups") first, then by the nice values
 * within one, and every script has a session: without this a node had a two-hundredth of it. The session's value counts only
 * where sched_autogroup_enabled is 1 and no control group shares the processor out, the process's own otherwise, and children
 * inherit that one alone: both are set. A session holds for all in it, so the process should have one of its own, and what it
 * starts in further sessions is to be favoured itself. Passes over one that is gone already, and over what is not allowed.
 */
export function favour(pid: number | undefined): void {
  if (pid === undefined) return;
  tryTo(() => writeFileSync(`/proc/${pid}/autogroup`, String(niceness)));
  tryTo(() => setPriority(pid, niceness));
}

function tryTo(act: () => void): void {
  try {
    act();
  } catch {
    // Its death is told by who waits for it.
  }
}
