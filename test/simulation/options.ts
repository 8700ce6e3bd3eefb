// Everything a seed decides before the first event: sizes, speeds, and which faults at which pace, swarm style: each seed
// has a random subset of them, for faults that never meet find little.
import { peopleActs } from "./people.ts";
import { SeededRandom } from "./kernel/random.ts";

export const faultKinds = [
  "agent-crash",
  "agent-crash-mid-event",
  "agent-pause",
  "agent-drain",
  "agent-power-loss",
  "agent-disk-full",
  "agent-disk-wiped",
  "agent-disk-rolled-back",
  "agent-disk-damaged",
  "agent-cloned",
  "agent-revoked",
  "agent-wall-jump",
  "node-crash",
  "node-crash-mid-event",
  "node-pause",
  "node-drain",
  "all-nodes-crash",
  "link-break",
  "link-cut",
  "link-cut-one-way",
  "link-clog",
  "database-crash",
  "database-failover",
  "database-cut-off",
  "database-clock-step",
] as const;

/** What people do to agents while they work. */
const peopleKinds = ["agent-removed", "agent-probed", "agent-slots-set", ...peopleActs] as const;
export type FaultKind = (typeof faultKinds)[number] | (typeof peopleKinds)[number];

/** Faults after which an agent may need a person; they come once a run at most. */
const graveKinds: readonly FaultKind[] = [
  "agent-disk-wiped",
  "agent-disk-rolled-back",
  "agent-disk-damaged",
  "agent-cloned",
  "agent-revoked",
  "agent-removed",
  "database-failover",
];

export interface SimOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly agents: number;
  readonly submissions: number;
  /** Moments at which the submissions come, many at once; 0: any time. */
  readonly bursts: number;
  readonly faultMs: number;
  readonly faults: Partial<Record<FaultKind, number>>;
  readonly latencyMs: { readonly least: number; readonly most: number };
  readonly slots: number;
  readonly waitingAtMost: number;
  readonly keepAcknowledgedMs: number;
  readonly compactBytes: number;
  readonly longestScriptMs: number;
  readonly slowestShimMs: number;
  readonly shimDeath: number;
  readonly failure: number;
  readonly slowestSyncMs: number;
  /** When power goes, if not at any of the moments. */
  readonly worstMoment?: "script-begins";
  readonly bounds: { readonly headBytes: number; readonly tailBytes: number };
  readonly cancels: number;
  readonly abandons: number;
  readonly retries: number;
  readonly noOps: number;
  /** Share of the scripts that say beside which others they may run. */
  readonly isolated: number;
  readonly shortLimits: number;
  readonly impatience: number;
  readonly hintLoss: number;
  readonly database: {
    readonly breakBefore: number;
    readonly breakAfter: number;
    readonly commitLate: number;
    readonly conflict: number;
    readonly slowestMs: number;
  };
}

export function isGrave(kind: FaultKind): boolean {
  return graveKinds.includes(kind);
}

/** A rate that is zero in half of all runs. */
function rate(random: SeededRandom, most: number): number {
  return random.chance(0.5) ? 0 : random.unit() * most;
}

export function deriveOptions(seed: number): SimOptions {
  const options = deriveSwarm(seed);
  const random = new SeededRandom(seed, "focus");
  const focus = random.unit();
  if (focus < 0.05) return { ...options, ...cramped(random), faults: withFault(options, "agent-power-loss", random) };
  if (focus < 0.1)
    return {
      ...options,
      ...cramped(random),
      worstMoment: "script-begins",
      faults: { "agent-power-loss": random.between(300, 1_200) },
    };
  if (focus < 0.16) return { ...options, ...killing(random), faults: withFault(options, "agent-crash", random) };
  if (focus < 0.2) return { ...options, ...failingOver(random) };
  if (focus < 0.23) return { ...options, ...newborn(random) };
  return options;
}

function withFault({ faults }: SimOptions, kind: FaultKind, random: SeededRandom): SimOptions["faults"] {
  return { ...faults, [kind]: random.between(1_200, 4_000) };
}

/** Chance alone seldom fills the few slots of an agent whose slow disk loses power. */
function cramped(random: SeededRandom): Partial<SimOptions> {
  return {
    nodes: 3,
    agents: 1,
    slots: 1,
    waitingAtMost: 4,
    bursts: 1 + random.below(3),
    slowestShimMs: random.between(5, 40),
    slowestSyncMs: random.between(100, 3_000),
    longestScriptMs: random.between(500, 4_000),
    noOps: 0,
  };
}

/** Nor does it often end an agent while that ends a script. */
function killing(random: SeededRandom): Partial<SimOptions> {
  return { agents: 1, cancels: 0.9, noOps: 0, longestScriptMs: random.between(2_000, 7_000) };
}

/** Nor does an agent often die in the first moments of its disk, and lose power later. */
function newborn(random: SeededRandom): Partial<SimOptions> {
  return {
    agents: 1,
    submissions: 10,
    faults: {
      "agent-disk-wiped": random.between(1_500, 4_000),
      "agent-crash-mid-event": random.between(300, 1_000),
      "agent-power-loss": random.between(1_500, 4_000),
    },
  };
}

/** Nor do sessions often live on after a failover, with work to come, when all else fails too. */
function failingOver(random: SeededRandom): Partial<SimOptions> {
  return {
    nodes: 1 + random.below(2),
    submissions: 10,
    faultMs: 15_000,
    longestScriptMs: random.between(2_000, 7_000),
    faults: { "database-failover": random.between(1_200, 4_000) },
    keepAcknowledgedMs: random.chance(0.5) ? 600_000 : random.between(300, 10_000),
  };
}

function deriveSwarm(seed: number): SimOptions {
  const random = new SeededRandom(seed, "options");
  const faults: Partial<Record<FaultKind, number>> = {};
  for (const kind of faultKinds) {
    if (!random.chance(isGrave(kind) ? 0.1 : 0.3)) continue;
    faults[kind] = random.between(1_200, 11_000);
  }
  // Of their own source: what else a seed means does not depend on them.
  const people = new SeededRandom(seed, "people");
  if (people.chance(0.08)) faults["agent-removed"] = people.between(1_200, 11_000);
  if (people.chance(0.2)) faults["agent-probed"] = people.between(1_200, 11_000);
  const settings = new SeededRandom(seed, "settings");
  for (const kind of peopleActs) if (settings.chance(0.12)) faults[kind] = settings.between(1_500, 9_000);
  const turns = new SeededRandom(seed, "turns");
  if (turns.chance(0.12)) faults["agent-slots-set"] = turns.between(1_200, 8_000);
  return {
    seed,
    nodes: 1 + random.below(3),
    agents: 1 + random.below(3),
    submissions: 3 + random.below(12),
    bursts: random.chance(0.3) ? 1 + random.below(3) : 0,
    faultMs: random.chance(0.12) ? random.between(35_000, 60_000) : random.between(5_000, 16_000),
    faults,
    latencyMs: { least: 0.2, most: random.chance(0.2) ? random.between(200, 2_500) : random.between(1, 60) },
    slots: 1 + random.below(3),
    waitingAtMost: random.below(7),
    keepAcknowledgedMs: random.chance(0.5) ? 600_000 : random.between(300, 10_000),
    compactBytes: random.chance(0.4) ? random.between(1_500, 8_000) : 1_000_000,
    longestScriptMs: random.between(50, 7_000),
    slowestShimMs: random.chance(0.15) ? random.between(3_000, 9_000) : random.between(5, 200),
    shimDeath: rate(random, 0.2),
    failure: rate(random, 0.15),
    slowestSyncMs: random.chance(0.2) ? random.between(100, 3_000) : random.between(1, 20),
    bounds: random.chance(0.3) ? { headBytes: 4_096, tailBytes: 12_288 } : { headBytes: 150_000, tailBytes: 100_000 },
    cancels: rate(random, 0.7),
    abandons: people.chance(0.25) ? people.unit() * 0.4 : 0,
    retries: settings.chance(0.2) ? settings.unit() * 0.5 : 0,
    noOps: rate(random, 0.5),
    isolated: turns.chance(0.6) ? turns.unit() : 0,
    shortLimits: rate(random, 0.7),
    impatience: rate(random, 0.4),
    hintLoss: random.chance(0.5) ? 0 : random.chance(0.3) ? 1 : random.unit(),
    database: {
      breakBefore: rate(random, 0.08),
      breakAfter: rate(random, 0.08),
      commitLate: rate(random, 0.05),
      conflict: rate(random, 0.08),
      slowestMs: random.chance(0.2) ? random.between(300, 5_000) : random.between(2, 30),
    },
  };
}
