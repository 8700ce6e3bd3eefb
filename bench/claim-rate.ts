// Whether a claim stays as quick when much waits: 1, 1,000 and 1,000,000 queued rows, most of them for agents that are
// offline. The node's own claim, through its own store, on a real PostgreSQL; each claim takes one attempt of an agent
// whose queue is as long as the depth allows, and a new one is submitted in its place. Floor: the claim with one row queued.
// HOLDFAST_ROWS=10000 for a small run: the deepest.
import { claimAttempts } from "../server/store/claim-attempts.ts";
import { makeBacklog } from "./many-rows.ts";
import { quantiles, repeatsAsked } from "./measure.ts";
import { explained } from "./plan.ts";
import { report } from "./result.ts";
import { StoreSite, type RowAgent } from "./store-site.ts";

const samples = 300;
const warmUp = 50;
const onlineAgents = 20;
/** Nine tenths of what waits is theirs, at the least. */
const offlineAgents = 180;
/** The product's own bound on an agent's queue. */
const perAgent = 1_000;
const deepest = Number(process.env["HOLDFAST_ROWS"] ?? 1_000_000);
const depths = [1, 1_000, deepest];
const repeats = repeatsAsked(3);

/** Milliseconds of each claim; one attempt waits more than `depth - 1` only while it is claimed. */
async function claims(site: StoreSite, agents: readonly RowAgent[]) {
  const found: number[] = [];
  for (let index = -warmUp; index < samples; index += 1) {
    const agent = agents[(index + warmUp) % agents.length];
    if (agent === undefined) throw new Error("there is an agent");
    await site.submit(agent);
    const startMs = performance.now();
    const claimed = await site.claim(agent);
    if (index >= 0) found.push(performance.now() - startMs);
    await site.drop(claimed);
  }
  return quantiles(found);
}

const name = (depth: number): string => depth.toLocaleString("en");
const site = await StoreSite.create();
try {
  const online = await site.agents(onlineAgents, { named: "online", online: "yes" });
  const found: { readonly depth: number; readonly p50: number[]; readonly p99: number[]; readonly details: object }[] =
    [];
  let waiting = 1;
  for (const depth of depths) {
    const added = Math.max(0, depth - waiting);
    const offline = await site.agents(added === 0 ? 0 : Math.max(offlineAgents, Math.ceil(added / perAgent)), {
      named: `offline-${depth}`,
      online: "no",
    });
    // Every online agent's own queue as well, as long as any agent's.
    if (added > 0) await makeBacklog(site.sql, added, [...online, ...offline]);
    waiting += added;
    const runs = [];
    for (let repeat = 0; repeat < repeats; repeat += 1) runs.push(await claims(site, online));
    const [agent] = online;
    if (agent === undefined) throw new Error("there is an agent");
    await site.submit(agent);
    const credits = online.map(({ id, ...boot }) => ({ agent: id, ...boot, lane: "work" as const, credit: 10 }));
    const plan = await explained(site.sql, (sql) => claimAttempts(sql, { node: site.node, credits, most: 100 }));
    await site.drop(await site.claim(agent));
    const { rows } = await site.sql.query<{ state: string; count: number }>(
      "select count(*)::int as count from attempt where rank = 0",
    );
    found.push({
      depth,
      p50: runs.map(({ p50 }) => p50),
      p99: runs.map(({ p99 }) => p99),
      details: { queued: rows[0]?.count, agentsOffline: offline.length, planOfTwentyAgentsWithCreditOfTen: plan },
    });
  }
  const [shallow, ...deep] = found;
  if (shallow === undefined) throw new Error("there is a first depth");
  const answers = (["p50", "p99"] as const).flatMap((which) => [
    { question: `claim with 1 queued, ${which}`, unit: "ms", values: shallow[which] },
    ...deep.map((one) => ({
      question: `claim with ${name(one.depth)} queued, ${which}`,
      unit: "ms",
      values: one[which],
      floor: { what: "the same with 1 queued", values: shallow[which] },
    })),
  ]);
  report("claim-rate", answers, {
    samples,
    onlineAgents,
    depths: Object.fromEntries(found.map(({ depth, details }) => [name(depth), details])),
  });
} finally {
  await site.end();
}
