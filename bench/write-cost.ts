// What the indexes on `attempt` cost each write: an attempt passes submit, claim, accepted, running and finish through the
// product's own store, a hundred at a time as group commit joins them, beside 200,000 finished ones (HOLDFAST_ROWS for
// another number). Measured are the bytes PostgreSQL writes to its log for each attempt, and the milliseconds: with the
// product's indexes, without those of indexes.ts, without each other one, and as the floor without any but the two that
// the table's own constraints need. Variants follow each other within every repeat.
// Without full page images and autovacuum, which come when they come; what vacuum writes afterwards is measured by itself.
// Milliseconds are those of the verbs' own statements, without the claim. They have no floor: without any index claims and
// counts read the whole table beside them, and what they read pushes out what writes need.
import { buildIndexes } from "../server/store/indexes.ts";
import type { ResultRecord } from "../shared/wire/result.ts";
import { makeHistory } from "./many-rows.ts";
import { repeatsAsked } from "./measure.ts";
import { figureOf, report, round } from "./result.ts";
import { StoreSite, type RowAgent } from "./store-site.ts";
import { WalReader, type Wal } from "./wal.ts";

const rows = Number(process.env["HOLDFAST_ROWS"] ?? 200_000);
const perBatch = 100;
/** In one run; few beside what is there, so that most of them are stored on new pages and not where earlier ones left room. */
const batches = Math.min(20, Math.max(1, Math.floor(rows / 20 / perBatch)));
const attempts = batches * perBatch;
/** Whose attempts a batch has. Few, for without an index a claim reads the whole table for each. */
const agentsPerBatch = 4;
const agentCount = 20;
const repeats = repeatsAsked(3);
/** What an attempt passes, and the statement that stores it. */
const stages = {
  submit: "submit-tasks",
  claim: "claim-attempts",
  accepted: "progress-attempts",
  running: "progress-attempts",
  finish: "finish-attempts",
} as const;
type Stage = keyof typeof stages;
const stageNames: readonly Stage[] = ["submit", "claim", "accepted", "running", "finish"];

const ofPages = ["attempt_state_queued", "attempt_state_succeeded", "attempt_state_other", "attempt_trouble"];
const others = [
  "attempt_queue",
  "attempt_offered",
  "attempt_open",
  "attempt_cancel",
  "attempt_expiry",
  "attempt_window",
  "attempt_feed",
];

interface Variant {
  readonly name: string;
  readonly without: readonly string[];
  /** Of `attempt`; the product's by default. */
  readonly fillfactor?: number;
}
interface Index {
  readonly name: string;
  readonly definition: string;
  readonly constrains: boolean;
}

const product: Variant = { name: "the product's indexes", without: [] };
const floor: Variant = { name: "no index but the constraints'", without: [...ofPages, ...others] };
const productFillfactor = 70;
const withoutPages: Variant = { name: "without those for pages", without: ofPages };
const variants: readonly Variant[] = [
  product,
  withoutPages,
  ...others.map((name): Variant => ({ name: `without ${name}`, without: [name] })),
  floor,
  ...[50, 100].map((fillfactor): Variant => ({ name: `fillfactor ${fillfactor}`, without: [], fillfactor })),
];

interface Run {
  readonly wal: Wal;
  readonly stages: Readonly<Record<Stage, { readonly bytes: number; readonly ms: number }>>;
  readonly vacuumBytes: number;
}

const end = { length: 0, sha256: "a".repeat(64) };
const record: ResultRecord = {
  outcome: "succeeded",
  reason: "",
  exitCode: 0,
  signal: null,
  startedAtMs: 1_000,
  finishedAtMs: 2_000,
  durationMs: 1_000,
  out: end,
  err: end,
};

/** A batch goes through one stage as a whole before the next, which is what joins its writes; `after` is told of each. */
async function pass(site: StoreSite, agents: readonly RowAgent[], after: (stage: Stage) => Promise<void>) {
  const { node, store } = site;
  const credit = perBatch / agents.length;
  await Promise.all(agents.flatMap((agent) => Array.from({ length: credit }, () => site.submit(agent))));
  await after("submit");
  const credits = agents.map(({ id, bootId, journalId }) => {
    return { agent: id, bootId, journalId, lane: "work" as const, credit, again: false };
  });
  const claimed = await store.claim({ node, credits, most: perBatch });
  if (claimed.length !== perBatch) throw new Error(`${claimed.length} of ${perBatch} attempts were claimed`);
  await after("claim");
  const held = claimed.map(({ attempt, agent, journalId }) => {
    if (journalId === undefined) throw new Error("an offer is bound to a journal");
    return { attempt, agent, journalId, node };
  });
  for (const reached of ["accepted", "running"] as const) {
    const views = await Promise.all(held.map((one) => store.progress({ ...one, homeNo: 1, reached })));
    if (views.some((view) => view.kind !== "row" || view.state !== reached)) throw new Error(`not all are ${reached}`);
    await after(reached);
  }
  const ends = await Promise.all(held.map((one) => store.finish({ ...one, record })));
  if (ends.some(({ kind }) => kind !== "stored")) throw new Error("not all results were stored");
  await after("finish");
}

async function measured(site: StoreSite, wal: WalReader, agents: readonly RowAgent[]): Promise<Run> {
  await wal.checkpoint();
  const found = { submit: none(), claim: none(), accepted: none(), running: none(), finish: none() };
  const first = await wal.mark();
  let last = first;
  for (let batch = 0; batch < batches; batch += 1) {
    const from = (batch * agentsPerBatch) % agents.length;
    site.statements.length = 0;
    await pass(site, agents.slice(from, from + agentsPerBatch), async (stage) => {
      const now = await wal.mark();
      found[stage].bytes += offsetOf(now) - offsetOf(last);
      found[stage].ms += site.took(stages[stage]).reduce((sum, ms) => sum + ms, 0);
      last = now;
      site.statements.length = 0;
    });
  }
  const written = await wal.between(first, last);
  await site.sql.query("vacuum (index_cleanup on) attempt");
  const vacuumed = await wal.between(last, await wal.mark());
  return { wal: written, stages: found, vacuumBytes: vacuumed.bytes };
}

const none = (): { bytes: number; ms: number } => ({ bytes: 0, ms: 0 });

/** `16/B374D848`: two halves of one number of bytes. */
function offsetOf(lsn: string): number {
  const [high, low] = lsn.split("/");
  return Number.parseInt(high ?? "", 16) * 2 ** 32 + Number.parseInt(low ?? "", 16);
}

/** Of the updates of `attempt`, those that left every index alone. */
function hotShare({ wal }: Run): number {
  const updates = wal.written.filter(({ relation, record: kind }) => relation === "attempt" && kind.includes("UPDATE"));
  const count = (found: typeof updates): number => found.reduce((sum, { records }) => sum + records, 0);
  return count(updates.filter(({ record: kind }) => kind.includes("HOT_UPDATE"))) / count(updates);
}

const median = (values: readonly number[]): number => figureOf(values, "").median;
const walOf = ({ wal }: Run): number => round(wal.bytes / attempts);
const msOf = (run: Run): number =>
  round(stageNames.reduce((sum, stage) => sum + (stage === "claim" ? 0 : run.stages[stage].ms), 0) / attempts);

function detailsOf(runs: readonly Run[]) {
  const byStage = (which: "bytes" | "ms") =>
    Object.fromEntries(
      stageNames.map((stage) => [stage, round(median(runs.map((run) => run.stages[stage][which])) / attempts)]),
    );
  const [run] = runs;
  if (run === undefined) throw new Error("there is a repeat");
  const relations: Record<string, Record<string, string>> = {};
  for (const { relation, record: kind, records, bytes } of run.wal.written.toSorted((a, b) => b.bytes - a.bytes))
    if (bytes / attempts >= 1)
      (relations[relation] ??= {})[kind] = `${round(records / attempts)} × ${round(bytes / records)} B`;
  return {
    walBytes: median(runs.map(walOf)),
    ms: median(runs.map(msOf)),
    hotShare: round(median(runs.map(hotShare))),
    vacuumBytes: round(median(runs.map(({ vacuumBytes }) => vacuumBytes)) / attempts),
    pagesChanged: round(median(runs.map(({ wal }) => wal.pages)) / attempts),
    walBytesByStage: byStage("bytes"),
    msByStage: byStage("ms"),
    recordsOfOneAttempt: relations,
  };
}

/** Every name here is an index of `attempt`, and none but those of its constraints is missing here. */
function check(standing: readonly Index[]): void {
  const names = standing.filter(({ constrains }) => !constrains).map(({ name }) => name);
  if (names.toSorted().join() !== floor.without.toSorted().join())
    throw new Error(`attempt has the indexes ${names.join(", ")}`);
}

const site = await StoreSite.create({ full_page_writes: "off", autovacuum: "off", max_wal_size: "4GB" });
try {
  const agents = await site.agents(agentCount, { named: "agent", online: "yes" });
  await makeHistory(site.sql, { rows, agents, days: 90, node: site.node });
  const { rows: standing } = await site.sql.query<Index>(
    `select c.relname as name, pg_get_indexdef(c.oid) as definition, i.indisunique as constrains
     from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = 'attempt'::regclass`,
  );
  check(standing);
  const wal = await WalReader.open(site.adminUrl, site.sql);
  const found = new Map<Variant, Run[]>(variants.map((variant) => [variant, []]));
  try {
    await measured(site, wal, agents);
    for (let repeat = 0; repeat < repeats; repeat += 1)
      for (const [variant, runs] of found) {
        for (const name of variant.without) await site.sql.query(`drop index ${name}`);
        await site.sql.query(`alter table attempt set (fillfactor = ${variant.fillfactor ?? productFillfactor})`);
        runs.push(await measured(site, wal, agents));
        for (const { name, definition } of standing)
          if (variant.without.includes(name)) await site.sql.query(definition);
      }
  } finally {
    await wal.end();
  }
  const built = await buildIndexes(site.database);
  if (built.length > 0) throw new Error(`the bench left ${built.join(", ")} out`);
  const valuesOf = (variant: Variant, of: (run: Run) => number): number[] => (found.get(variant) ?? []).map(of);
  const leastWal = { what: floor.name, values: valuesOf(floor, walOf) };
  report(
    "write-cost",
    [
      { question: "WAL of one attempt", unit: "B", values: valuesOf(product, walOf), floor: leastWal },
      {
        question: "WAL of one attempt, without the indexes for pages",
        unit: "B",
        values: valuesOf(withoutPages, walOf),
        floor: leastWal,
      },
      {
        question: "one attempt's writes by the hundred, without the claim",
        unit: "ms",
        values: valuesOf(product, msOf),
      },
    ],
    {
      rows,
      attempts,
      perBatch,
      agentsPerBatch,
      variants: Object.fromEntries([...found].map(([{ name }, runs]) => [name, detailsOf(runs)])),
    },
  );
} finally {
  await site.end();
}
