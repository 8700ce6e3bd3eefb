// Which agents are updated next, and whether at all: one by one until one has come up with the new version, then wave after
// wave. Pure; rollout.ts acts. Invariant: each agent is in one wave at most, no wave is larger than was asked for, none larger
// than one before the version is proven, and none begins before the former has ended, nor once more have failed than may.

export type WaveSize =
  { readonly kind: "count"; readonly count: number } | { readonly kind: "share"; readonly percent: number };

export interface RolloutPlan {
  /** In the order in which they are to be updated. */
  readonly agents: readonly string[];
  /** Of every wave once an agent was updated; one until then. */
  readonly wave: WaveSize;
  /** So many may fail. */
  readonly failures: number;
  /** Of the request that starts a wave. */
  readonly waveAtMost: number;
}

interface Progress {
  readonly plan: RolloutPlan;
  /** Not begun. */
  readonly left: readonly string[];
  readonly failed: number;
  readonly updated: number;
  /** Begun so far. */
  readonly waves: number;
}

export interface WaveResult {
  readonly failed: number;
  readonly updated: number;
}

export type Rollout =
  | ({ readonly at: "between" } & Progress)
  | ({ readonly at: "wave"; readonly running: readonly string[] } & Progress)
  | { readonly at: "ended"; readonly why: RolloutEnd; readonly untouched: readonly string[] };

/** `interrupted`: somebody asked to stop, and there were some left. */
export type RolloutEnd = "done" | "failures" | "interrupted";

export function planRollout(plan: RolloutPlan): Rollout {
  return settle({ plan, left: plan.agents, failed: 0, updated: 0, waves: 0 }, "go-on");
}

/** Takes the next wave; anywhere but between two waves, nothing happens. */
export function beginWave(rollout: Rollout): Rollout {
  if (rollout.at !== "between") return rollout;
  const { plan, left, updated, waves } = rollout;
  const size = updated === 0 ? 1 : waveSize(plan);
  return { ...rollout, at: "wave", waves: waves + 1, running: left.slice(0, size), left: left.slice(size) };
}

/** Every agent of the wave has ended. What neither failed nor was updated says nothing about the version. */
export function endWave(rollout: Rollout, result: WaveResult, wish: "go-on" | "stop"): Rollout {
  if (rollout.at !== "wave") return rollout;
  const { plan, left, waves } = rollout;
  const [failed, updated] = [rollout.failed + result.failed, rollout.updated + result.updated];
  return settle({ plan, left, waves, failed, updated }, wish);
}

/** Asked to stop while no wave is under way. */
export function stopRollout(rollout: Rollout): Rollout {
  return rollout.at === "between" ? settle(rollout, "stop") : rollout;
}

function settle({ plan, left, failed, updated, waves }: Progress, wish: "go-on" | "stop"): Rollout {
  if (failed > plan.failures) return { at: "ended", why: "failures", untouched: left };
  if (left.length === 0) return { at: "ended", why: "done", untouched: [] };
  if (wish === "stop") return { at: "ended", why: "interrupted", untouched: left };
  return { at: "between", plan, left, failed, updated, waves };
}

/** Rounded down, for more at once than was said may be more than can be missed; but one at least, or nothing would go on. */
function waveSize({ agents, wave, waveAtMost }: RolloutPlan): number {
  const wanted = wave.kind === "count" ? wave.count : Math.floor((agents.length * wave.percent) / 100);
  return Math.max(1, Math.min(wanted, waveAtMost));
}
