// The end of everything an attempt started, in order: the tree, then the shim that writes the exit, then the relays that
// store what is in their pipes. Invariant: when it resolves, no byte of the attempt comes any more, but for processes that
// would not die.
import type { AttemptId } from "../shared/ids.ts";
import { streams } from "../shared/task.ts";
import type { AttemptFiles } from "./attempt-host.ts";
import type { KillDeps, KillOptions, Tree } from "./process-tree.ts";
import { killTree } from "./process-tree.ts";

/** With their script dead, shim and relays take milliseconds. */
const patienceMs = 2_000;
/** Between a script's end and the first look whether its relays wait only for what others may still write. */
export const lingerMs = 250;
const lookMs = 3;
const slowestLookMs = 100;

/** Resolves with the pids that would not die. */
export async function endTree(
  {
    attempt,
    folder,
    ending,
  }: { readonly attempt: AttemptId; readonly folder: AttemptFiles; readonly ending: Tree["ending"] },
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
  const left = await killTree({ attempt, shim, relays: () => folder.relays(), isConcluding, ending }, options, deps);
  const endedMs = clock.monotonicMs();
  while (left.length === 0 && folder.exit() === undefined && shim !== undefined && processes.isAlive(shim)) {
    const waitedMs = clock.monotonicMs() - endedMs;
    if (waitedMs > patienceMs) processes.signal(shim.pid, "SIGKILL");
    // Somebody outside the tree holds the output open.
    else if (waitedMs > lingerMs && folder.isConcluding()) processes.signal(shim.pid, "SIGALRM");
    await clock.sleep(lookMs, deps.signal);
  }
  await relaysEnd(folder, options.verifyMs, deps);
  return left;
}

/**
 * They end with the last writer. One that sleeps is held by somebody outside the tree, and all it was given is stored; one that
 * does not is given as long as the tree, for a disk may be slow, and what it then has not stored is lost. Nobody would ever end
 * either later, nor one that is stuck (bash runs round for ever when INT meets the start of a wait).
 */
async function relaysEnd(
  folder: AttemptFiles,
  verifyMs: number,
  { clock, processes, signal }: KillDeps,
): Promise<void> {
  const startMs = clock.monotonicMs();
  for (const relay of folder.relays().map((mark, at) => ({ mark, stream: streams[at] ?? "out" }))) {
    let pauseMs = lookMs;
    for (; processes.isAlive(relay.mark); pauseMs = Math.min(pauseMs * 2, slowestLookMs)) {
      const waitedMs = clock.monotonicMs() - startMs;
      const isStored = waitedMs > patienceMs && processes.isIdle(relay.mark);
      if (isStored || waitedMs > verifyMs) {
        if (!isStored) folder.markLost(relay.stream);
        processes.signal(relay.mark.pid, "SIGKILL");
        break;
      }
      await clock.sleep(pauseMs, signal);
    }
  }
}
