// Whether years of use make the store slower: submit, claim and lists beside 2,000,000 finished attempts (HOLDFAST_ROWS for
// another number). The floor of submit and claim is an empty database; that of lists is 30,000 attempts, just enough that
// every page is as full. Then retention: what a batch takes, how many
// rows a second go, and what a submit takes beside it. 120 days of history, of which retention removes those after 90.
// Lists are asked as the API asks: fifty tasks a page.
import { listTasks, type TaskPage } from "../server/store/list-tasks.ts";
import { prune } from "../server/store/retention.ts";
import { systemClock } from "../shared/clock.ts";
import { firstIdAt, taskIdSchema } from "../shared/ids.ts";
import { makeHistory } from "./many-rows.ts";
import { quantiles, repeatsAsked, samplesOf, type Quantiles } from "./measure.ts";
import { explained } from "./plan.ts";
import { report, round, type Answer } from "./result.ts";
import { StoreSite, type RowAgent } from "./store-site.ts";

const rows = Number(process.env["HOLDFAST_ROWS"] ?? 2_000_000);
const shortRows = Math.min(30_000, rows);
const days = 120;
const agentCount = 20;
const samples = 200;
const listSamples = 30;
const repeats = repeatsAsked(3);
const dayMs = 86_400_000;

const midway = taskIdSchema.parse(firstIdAt(Date.now() - 45 * dayMs));
const pages = (agent: RowAgent): Readonly<Record<string, Partial<TaskPage>>> => ({
  newest: {},
  "older page": { before: midway },
  "of one agent": { agent: agent.name },
  succeeded: { state: "succeeded" },
  failed: { state: "failed" },
  queued: { state: "queued" },
  running: { state: "running" },
  "failed, of one agent": { agent: agent.name, state: "failed" },
});

type Found = ReadonlyMap<string, readonly Quantiles[]>;

async function lists(site: StoreSite, agent: RowAgent): Promise<Found> {
  const found = new Map<string, Quantiles[]>();
  for (let repeat = 0; repeat < repeats; repeat += 1)
    for (const [what, page] of Object.entries(pages(agent))) {
      const name = `tasks listed: ${what}`;
      found.set(name, [...(found.get(name) ?? []), quantiles(await list(site, page))]);
    }
  return found;
}

async function verbs(site: StoreSite, agents: readonly RowAgent[]): Promise<Found> {
  const found = new Map<string, Quantiles[]>();
  const note = (what: string, times: readonly number[]): void =>
    void found.set(what, [...(found.get(what) ?? []), quantiles(times)]);
  const agentAt = (index: number): RowAgent => {
    const agent = agents[index % agents.length];
    if (agent === undefined) throw new Error("there is an agent");
    return agent;
  };
  for (let repeat = 0; repeat < repeats; repeat += 1) {
    let turn = 0;
    note("submit of one task", await samplesOf(() => site.submit(agentAt((turn += 1))), { times: samples, warmUp: 0 }));
    turn = 0;
    const claimed: Awaited<ReturnType<StoreSite["claim"]>>[] = [];
    note(
      "claim of one task",
      await samplesOf(async () => claimed.push(await site.claim(agentAt((turn += 1)))), { times: samples, warmUp: 0 }),
    );
    for (const one of claimed) await site.drop(one);
  }
  return found;
}

/** A page that no longer answers within the product's own time limit counts as that limit. */
async function list(site: StoreSite, page: Partial<TaskPage>): Promise<number[]> {
  const query = { limit: 50, before: null, agent: undefined, state: undefined, ...page };
  const one = async (): Promise<number> => {
    const startMs = performance.now();
    await listTasks(site.database.durable, query).catch(() => []);
    return performance.now() - startMs;
  };
  const first = await one();
  const times = first > 500 ? 2 : listSamples;
  const found = [first];
  while (found.length < times) found.push(await one());
  // The first of them finds nothing in memory: left out, unless each takes that long.
  return times === 2 ? found : found.slice(1);
}

/** One run of the product's own retention while submits go on. */
async function retention(site: StoreSite, agents: readonly RowAgent[]) {
  const [agent] = agents;
  if (agent === undefined) throw new Error("there is an agent");
  const counted = async (): Promise<number> =>
    (await site.sql.query<{ n: number }>("select count(*)::int as n from task")).rows[0]?.n ?? 0;
  const before = await counted();
  site.statements.length = 0;
  const submits: number[] = [];
  let isOver = false;
  const startMs = performance.now();
  const pruning = prune(site.database, systemClock).finally(() => (isOver = true));
  while (!isOver) {
    const submittedMs = performance.now();
    await site.submit(agent);
    submits.push(performance.now() - submittedMs);
  }
  await pruning;
  const tookMs = performance.now() - startMs;
  const removed = before + submits.length - (await counted());
  return { tookMs, removed, batches: quantiles(site.took("prune-attempts")), submits: quantiles(submits) };
}

const site = await StoreSite.create();
try {
  const agents = await site.agents(agentCount, { named: "agent", online: "yes" });
  const [agent] = agents;
  if (agent === undefined) throw new Error("there is an agent");
  await verbs(site, agents);
  const empty = new Map(await verbs(site, agents));
  await makeHistory(site.sql, { rows: shortRows, agents, days, node: site.node });
  for (const [what, found] of await lists(site, agent)) empty.set(what, found);
  const madeMs = performance.now();
  await makeHistory(site.sql, { rows: rows - shortRows, agents, days, node: site.node });
  console.error(`${rows} rows made in ${Math.round((performance.now() - madeMs) / 1_000)} s`);
  const full = new Map([...(await verbs(site, agents)), ...(await lists(site, agent))]);
  const plans: Record<string, unknown> = {};
  for (const [what, page] of Object.entries(pages(agent)))
    plans[what] = await explained(site.sql, (sql) =>
      listTasks(sql, { limit: 50, before: null, agent: undefined, state: undefined, ...page }),
    );
  const run = await retention(site, agents);
  const answers = [...full].map(([what, found]): Answer => ({
    question: `${what}, beside a long history`,
    unit: "ms",
    values: found.map(({ p50 }) => p50),
    floor: {
      what: what.startsWith("tasks listed") ? "beside 30,000 attempts" : "in an empty database",
      values: (empty.get(what) ?? []).map(({ p50 }) => p50),
    },
  }));
  report(
    "history-depth",
    [
      ...answers,
      { question: "retention: one batch, p50", unit: "ms", values: [run.batches.p50] },
      { question: "retention: one batch, p99", unit: "ms", values: [run.batches.p99] },
      { question: "retention: tasks removed", unit: "/s", values: [round(run.removed / (run.tookMs / 1_000))] },
      {
        question: "submit of one task beside retention, p50",
        unit: "ms",
        values: [run.submits.p50],
        floor: {
          what: "without retention, same history",
          values: (full.get("submit of one task") ?? []).map(({ p50 }) => p50),
        },
      },
      { question: "submit of one task beside retention, p99", unit: "ms", values: [run.submits.p99] },
    ],
    {
      rows,
      days,
      agents: agentCount,
      floor: Object.fromEntries(empty),
      figures: Object.fromEntries(full),
      plans,
      retention: run,
    },
  );
} finally {
  await site.end();
}
