// The end of everything an attempt started, in order: the tree, then the shim that writes the exit, then the relays that
// store what is in their pipes. Invariant: when it resolves, no byte of the attempt comes any more, but for processes that
// would not die.
import type { AttemptId } from "../shared/ids.ts";
import type { AttemptFiles } from "./attempt-host.ts";
import type { KillDeps, KillOptions } from "./process-tree.ts";
import { killTree } from "./process-tree.ts";

/** With their script dead, shim and relays take milliseconds. */
const patienceMs = 2_000;
/** What a script left running may hold its output open for ever; this long the relays have to store what it wrote itself. */
export const lingerMs = 250;
const lookMs = 3;

/** Resolves with the pids that would not die. */
export async function endTree(
  { attempt, folder }: { readonly attempt: AttemptId; readonly folder: AttemptFiles },
  options: KillOptions,
  deps: KillDeps,
): Promise<number[]> {
  const { clock, processes } = deps;
  const marker = folder.marker();
  const shim = marker.kind === "shim" ? marker.mark : undefined;
  const isConcluding = (): boolean => folder.isConcluding();
  const readyMs = clock.monotonicMs() + patienceMs;
  // The script starts a moment before its relays are named, and without their names they would be ended with it.
  while (shim !== undefined && processes.isAlive(shim) && folder.relays().length === 0 && clock.monotonicMs() < readyMs)
    await clock.sleep(lookMs, deps.signal);
  const left = await killTree({ attempt, shim, relays: () => folder.relays(), isConcluding }, options, deps);
  const endedMs = clock.monotonicMs();
  while (left.length === 0 && folder.exit() === undefined && shim !== undefined && processes.isAlive(shim)) {
    const waitedMs = clock.monotonicMs() - endedMs;
    if (waitedMs > patienceMs) processes.signal(shim.pid, "SIGKILL");
    // Somebody outside the tree holds the output open.
    else if (waitedMs > lingerMs && folder.isConcluding()) processes.signal(shim.pid, "SIGALRM");
    await clock.sleep(lookMs, deps.signal);
  }
  await relaysEnd(folder, deps);
  return left;
}

/**
 * They end with the last writer. One that does not is held by somebody outside the tree, or stuck (bash runs round for ever when
 * INT meets the start of a wait): it is ended, for nobody would ever do it later.
 */
async function relaysEnd(folder: AttemptFiles, { clock, processes, signal }: KillDeps): Promise<void> {
  const deadlineMs = clock.monotonicMs() + patienceMs;
  for (let relays = folder.relays(); ;) {
    relays = relays.filter((relay) => processes.isAlive(relay));
    if (relays.length === 0) return;
    if (clock.monotonicMs() > deadlineMs) {
      for (const { pid } of relays) processes.signal(pid, "SIGKILL");
      return;
    }
    await clock.sleep(lookMs, signal);
  }
}
