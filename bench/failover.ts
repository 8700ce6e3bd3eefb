// How long a script's log pauses when the node it flows through is killed with -9: three nodes on one PostgreSQL, one
// agent, a kill in each run. Floor: the longest pause of the same script, followed in the same way, when nobody is killed.
import { DemoCluster } from "../demo/cluster.ts";
import { countUp } from "../demo/failover.ts";
import { quantiles, repeated, repeatsAsked } from "./measure.ts";
import { report, round } from "./result.ts";

const runs = Number(process.env["HOLDFAST_RUNS"] ?? 50);
const floorRuns = Math.max(5, Math.floor(runs / 5));
const names = ["node-a", "node-b", "node-c"];

const cluster = await DemoCluster.create();
try {
  await cluster.startDatabase();
  for (const name of names) await cluster.startNode(name);
  await cluster.startAgent({ name: "web-01", label: "role=web" });
  await cluster.connected(["web-01"], names);
  // Fifty kills are many already: once.
  const found = await repeated(repeatsAsked(1), async () => {
    const undisturbed: number[] = [];
    for (let run = 0; run < floorRuns; run += 1)
      undisturbed.push((await countUp(cluster, { kill: "nobody" })).longestPauseMs);
    const killed: number[] = [];
    for (let run = 0; run < runs; run += 1) {
      const { killed: victim, longestPauseMs } = await countUp(cluster, { kill: "home" });
      killed.push(longestPauseMs);
      await cluster.startNode(victim);
      await cluster.connected(["web-01"], names);
    }
    return { pauseMs: quantiles(killed), floorMs: quantiles(undisturbed), longestMs: round(Math.max(...killed)) };
  });
  report(
    "failover",
    (["p50", "p99"] as const).map((which) => ({
      question: `pause of a log when its node is killed, ${which}`,
      unit: "ms",
      values: found.map(({ pauseMs }) => pauseMs[which]),
      floor: { what: "nobody is killed", values: found.map(({ floorMs }) => floorMs[which]) },
    })),
    { runs: found },
  );
} finally {
  await cluster.end();
}
