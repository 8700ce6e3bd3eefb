// One run: a site, load on it, faults by plan, healing, waiting, judging. Invariants: every fault that was begun is healed,
// also when the run is broken off; everything it made is gone when it resolves or rejects, but the evidence of a violation.
import { eventually } from "../harness/eventually.ts";
import { checkHistory } from "./check.ts";
import { keepEvidence } from "./evidence.ts";
import { describeFault, subjectsOf, type Fault } from "./fault.ts";
import { inject, type Heal } from "./faults/inject.ts";
import { readAttempts, readJournal, readOpen, readTasks, readTruths } from "./gather.ts";
import type { History, JournalFacts } from "./history.ts";
import { Load } from "./load.ts";
import { planFaults, type PlannedFault } from "./plan.ts";
import { reportOf, type Report } from "./report.ts";
import { Site } from "./site.ts";

export interface NemesisOptions {
  readonly seed: number;
  readonly lastsMs: number;
  readonly nodes: number;
  readonly agents: number;
  readonly perSecond: number;
  /** Submissions in all. Default: as many as come. */
  readonly tasksAtMost?: number;
  readonly say: (line: string) => void;
}

/** For each agent its slots and a few behind them. */
const openTasksPerAgent = 12;
const smallDisks = 2;
/** A machine that is busy with other work is no violation: these bound only what would never come. */
const answeredWithinMs = 180_000;
/** The longest window of an unanswered offer, twice, and the silence before a line is given up, many times. */
const settledWithinMs = 300_000;
const toldWithinMs = 180_000;
const countMs = 2_000;

export async function runNemesis(options: NemesisOptions, signal: AbortSignal): Promise<Report> {
  const { seed, lastsMs, perSecond, say } = options;
  const [first, ...others] = names("node", options.nodes);
  const agents = names("agent", options.agents);
  const small = agents.slice(0, Math.min(smallDisks, agents.length));
  if (first === undefined) throw new Error("at least one node");
  const nodes = [first, ...others] as const;
  await using site = await Site.start({ nodes, agents, smallDisks: small, seed, say }, signal);
  const load = new Load(site, { seed, perSecond, openTasksPerAgent, tasksAtMost: options.tasksAtMost ?? Infinity });
  const plan = planFaults({ seed, lastsMs, nodes, agents, smallDisks: small });
  const over = new AbortController();
  const untilOver = AbortSignal.any([signal, over.signal]);
  const counted = keepCounting(site, load, untilOver);
  const startedMs = performance.now();
  const loaded = pause(lastsMs, untilOver).then(() => {
    load.submitNoMore();
    return performance.now() - startedMs;
  });
  try {
    load.start();
    say(`load of ${perSecond}/s, ${plan.length} faults in ${lastsMs / 1_000} s`);
    const { faults, lateStandbys } = await harm(site, { plan, lastsMs, say, signal });
    const healedMs = performance.now();
    say("healed");
    await load.settle(answeredWithinMs);
    const settledMs = await settle(site, signal, healedMs);
    const lastedMs = await loaded;
    over.abort();
    await counted;
    say(settledMs === null ? "NOT settled" : `settled after ${(settledMs / 1_000).toFixed(1)} s`);
    await load.stop();
    const history: History = {
      submitted: load.submitted,
      truths: await readTruths(load.submitted),
      looks: load.looks,
      tasks: await readTasks(site.database.url),
      attempts: await readAttempts(site.database.url),
      journals: await readJournals(site, signal),
      deaths: site.deaths,
      databaseDeaths: site.databaseDeaths,
      filled: new Set(faults.flatMap(({ fault }) => (fault.kind === "fill-disk" ? [fault.agent] : []))),
    };
    const facts = { seed, nodes: nodes.length, agents: agents.length, perSecond, faults, lateStandbys, settledMs };
    const violations = checkHistory(history);
    const report = reportOf({ ...facts, lastedMs, heldBack: load.heldBack }, history, violations);
    if (violations.length > 0 || settledMs === null)
      say(`data, logs and the history of it stay: ${await keepEvidence(site, history, report)}`);
    return report;
  } finally {
    over.abort();
    await Promise.all([loaded, counted]);
    await load.stop();
  }
}

interface Harm {
  readonly plan: readonly PlannedFault[];
  readonly lastsMs: number;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

interface Harmed {
  /** Those that were carried out. */
  readonly faults: readonly PlannedFault[];
  /** Why there was no new standby in time, for each that was late. */
  readonly lateStandbys: readonly string[];
}

/** Resolves when all are healed. */
async function harm(site: Site, { plan, lastsMs, say, signal }: Harm): Promise<Harmed> {
  const startMs = performance.now();
  const done: PlannedFault[] = [];
  const lateStandbys: string[] = [];
  const until = (atMs: number): Promise<void> => pause(startMs + atMs - performance.now(), signal);
  const busy = new Map<string, Promise<void>>();
  const one = async (planned: PlannedFault): Promise<void> => {
    const { atMs, forMs, fault } = planned;
    await until(atMs);
    const subjects = subjectsOf(fault);
    // Healing takes its time, such as that of a new standby, and a subject is one fault's until then.
    const before = subjects.flatMap((subject) => busy.get(subject) ?? []);
    const healed = Promise.withResolvers<void>();
    for (const subject of subjects) busy.set(subject, healed.promise);
    try {
      await Promise.all(before);
      if (signal.aborted || performance.now() > startMs + atMs + forMs) return;
      if (fault.kind === "promote-standby" && !site.database.hasStandby) return;
      say(`${(atMs / 1_000).toFixed(1)} s, for ${(forMs / 1_000).toFixed(1)} s: ${describeFault(fault)}`);
      const heal = await inject(site, fault);
      done.push(planned);
      try {
        await until(atMs + forMs);
      } finally {
        const late = await lateness(fault, heal);
        if (late !== undefined) lateStandbys.push(late);
        const now = `${((performance.now() - startMs) / 1_000).toFixed(1)} s`;
        say(late === undefined ? `${now}: healed of ${describeFault(fault)}` : `${now}: still no standby: ${late}`);
      }
    } finally {
      healed.resolve();
    }
  };
  // All of them, so that one that fails leaves no other unhealed.
  const ends = await Promise.allSettled([...plan.map((planned) => one(planned)), until(lastsMs)]);
  const failed = ends.find((end) => end.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  if (signal.aborted) throw new Error("broken off");
  return { faults: done, lateStandbys };
}

/** Heals. A copy of the database is the machine's speed, which is not judged: one that is late is told, all else thrown. */
async function lateness(fault: Fault, heal: Heal): Promise<string | undefined> {
  try {
    await heal();
    return undefined;
  } catch (cause) {
    if (fault.kind !== "promote-standby") throw cause;
    return cause instanceof Error ? cause.message : String(cause);
  }
}

/** Null when something stays open. */
async function settle(site: Site, signal: AbortSignal, healedMs: number): Promise<number | null> {
  try {
    await site.connected(signal);
    await eventually(
      "no task is open",
      async () => {
        const open = await readOpen(site.database.url);
        return { done: signal.aborted || open.size === 0, state: [...open].slice(0, 10) };
      },
      { limitMs: settledWithinMs, everyMs: 500 },
    );
    return performance.now() - healedMs;
  } catch (cause) {
    process.stderr.write(`${String(cause)}\n`);
    return null;
  }
}

/** Results that were stored a moment ago are acknowledged a moment later. */
async function readJournals(site: Site, signal: AbortSignal): Promise<readonly JournalFacts[]> {
  const read = (): Promise<JournalFacts[]> =>
    Promise.all(site.agents.map(({ name, dataDirectory }) => readJournal(name, dataDirectory)));
  try {
    return await eventually(
      "agents have told all",
      async () => {
        const facts = await read();
        return { done: signal.aborted || facts.every(({ open }) => open.length === 0), state: facts };
      },
      { limitMs: toldWithinMs, everyMs: 500 },
    );
  } catch {
    return await read();
  }
}

async function keepCounting(site: Site, load: Load, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await pause(countMs, signal);
    await count(site, load);
  }
}

/** How many are open, for the load's bound. While the database is away nothing is known, and nothing is counted as done. */
async function count(site: Site, load: Load): Promise<void> {
  try {
    const before = load.open;
    const open = await readOpen(site.database.url);
    load.closed(before.filter((task) => !open.has(task)));
  } catch {
    // Next time.
  }
}

function names(kind: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `${kind}-${String(index + 1).padStart(2, "0")}`);
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
  });
}
