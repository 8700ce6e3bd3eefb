// Which processes of a test get the processor first. Agents and scripts are other machines' work in the field: beside a
// cluster on one machine they get what nodes and database leave.
import { existsSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";

/**
 * For a process with a session of its own, before all that have none of this. Linux shares a processor out by sessions, and
 * every script has one: without this a node had a two-hundredth of it. Passes over one that is gone already.
 */
export function favour(pid: number | undefined): void {
  if (pid === undefined) return;
  const group = `/proc/${pid}/autogroup`;
  try {
    if (existsSync(group)) writeFileSync(group, "-15");
    else setPriority(pid, -15);
  } catch {
    // Its death is told by who waits for it.
  }
}
