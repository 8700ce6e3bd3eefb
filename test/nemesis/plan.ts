// When which fault comes and goes, from a seed. Pure. Invariants: the same seed gives the same plan; every fault is healed
// within the time; every kind comes once before any comes again, as far as its subjects are free.
import { seeded } from "../harness/seeded.ts";
import { faultKinds, subjectsOf, type Direction, type Fault, type FaultKind } from "./fault.ts";

export interface PlannedFault {
  readonly atMs: number;
  readonly forMs: number;
  readonly fault: Fault;
}

export interface PlanOptions {
  readonly seed: number;
  readonly lastsMs: number;
  readonly nodes: readonly string[];
  readonly agents: readonly string[];
  /** Those whose disk can be filled. */
  readonly smallDisks: readonly string[];
}

/** On average one begins after this long. */
const gapMs = 3_500;
/** A subject is left alone this long after a fault, so that it comes back from each. */
const restMs = 3_000;
const shortestMs = 1_000;
/** A silent line is noticed after 25 s: some cuts last longer than that. */
const longestMs: Readonly<Record<FaultKind, number>> = {
  "kill-node": 8_000,
  "stop-node": 20_000,
  "kill-agent": 8_000,
  "stop-agent": 20_000,
  cut: 40_000,
  lose: 25_000,
  "slow-line": 25_000,
  "cut-database": 20_000,
  "slow-database": 20_000,
  "kill-database": 10_000,
  "promote-standby": 10_000,
  "fill-disk": 15_000,
};

export function planFaults(options: PlanOptions): readonly PlannedFault[] {
  const unit = seeded(options.seed);
  const freeAtMs = new Map<string, number>();
  const planned: PlannedFault[] = [];
  let bag: FaultKind[] = [];
  for (let atMs = gapMs * unit(); atMs < options.lastsMs - shortestMs; atMs += gapMs * (0.3 + 1.4 * unit())) {
    if (bag.length === 0) bag = shuffled(faultKinds, unit);
    const found = firstFree(bag, (kind) => {
      const fault = drawFault(kind, options, unit);
      if (fault === undefined) return "impossible";
      return subjectsOf(fault).every((subject) => (freeAtMs.get(subject) ?? 0) <= atMs) ? fault : "taken";
    });
    if (found === undefined) continue;
    const drawnMs = shortestMs + unit() * (longestMs[found.kind] - shortestMs);
    const forMs = Math.min(drawnMs, options.lastsMs - atMs);
    for (const subject of subjectsOf(found)) freeAtMs.set(subject, atMs + forMs + restMs);
    planned.push({ atMs: Math.round(atMs), forMs: Math.floor(forMs), fault: found });
  }
  return planned;
}

/** Takes it out of the bag; one whose subjects are taken stays there for the next time. */
function firstFree(bag: FaultKind[], drawn: (kind: FaultKind) => Fault | "impossible" | "taken"): Fault | undefined {
  for (const kind of bag.slice()) {
    const fault = drawn(kind);
    if (fault === "taken") continue;
    bag.splice(bag.indexOf(kind), 1);
    if (fault !== "impossible") return fault;
  }
  return undefined;
}

function drawFault(kind: FaultKind, { nodes, agents, smallDisks }: PlanOptions, unit: () => number): Fault | undefined {
  const node = one(nodes, unit);
  const agent = one(agents, unit);
  if (node === undefined || agent === undefined) return undefined;
  switch (kind) {
    case "kill-node":
    case "stop-node":
      return { kind, node };
    case "kill-agent":
    case "stop-agent":
      return { kind, agent };
    case "cut":
      return { kind, agents: some(agents, unit), nodes: some(nodes, unit), direction: drawDirection(unit) };
    case "lose":
      return { kind, agents: some(agents, unit), percent: 5 + Math.floor(unit() * 26) };
    case "slow-line":
      return { kind, agents: some(agents, unit), kbitPerSecond: 32 + Math.floor(unit() * 225) };
    case "cut-database":
      return { kind, node, direction: drawDirection(unit) };
    case "slow-database":
      return { kind, node, delayMs: 20 + Math.floor(unit() * 281) };
    case "kill-database":
    case "promote-standby":
      return { kind };
    case "fill-disk": {
      const small = one(smallDisks, unit);
      return small === undefined ? undefined : { kind, agent: small };
    }
  }
}

function drawDirection(unit: () => number): Direction {
  return one<Direction>(["both", "incoming", "outgoing"], unit) ?? "both";
}

function one<Item>(items: readonly Item[], unit: () => number): Item | undefined {
  return items[Math.floor(unit() * items.length)];
}

/** One, up to half of them, or all. */
function some(items: readonly string[], unit: () => number): readonly string[] {
  const most = unit() < 0.2 ? items.length : Math.ceil(items.length / 2);
  const count = unit() < 0.2 ? most : 1 + Math.floor(unit() * most);
  return shuffled(items, unit).slice(0, count).toSorted();
}

function shuffled<Item>(items: readonly Item[], unit: () => number): Item[] {
  return items
    .map((item) => ({ item, key: unit() }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ item }) => item);
}
