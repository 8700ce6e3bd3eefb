// Submit → first byte of the script's output at the SDK, idle cluster, one node and one agent. The floor is the sum of
// the same hops measured bare in the same run: HTTP echo, one commit, mTLS WebSocket echo, two fdatasync, spawn through
// the shim until the output file has a byte, one server-sent event.
import { Client } from "pg";
import { startBenchCluster, type BenchCluster } from "./cluster.ts";
import { measureFloor } from "./dispatch-floor.ts";
import { quantiles, repeated, repeatsAsked } from "./measure.ts";
import { report } from "./result.ts";

const times = 300;
const warmUp = 30;

/** Milliseconds to the first byte. The next one starts when this task is over, so that the cluster is idle. */
async function firstByte(cluster: BenchCluster): Promise<number> {
  const startMs = performance.now();
  const handle = await cluster.client.run({ on: "agent-0", script: "echo x", interpreter: "sh" });
  for await (const piece of handle.bytes()) {
    if ("bytes" in piece) break;
  }
  const tookMs = performance.now() - startMs;
  await handle.results();
  return tookMs;
}

const cluster = await startBenchCluster(1);
const database = new Client({ connectionString: cluster.databaseUrl });
try {
  await database.connect();
  const runs = await repeated(repeatsAsked(3), async () => {
    const before = await measureFloor(database);
    const samples: number[] = [];
    for (let index = -warmUp; index < times; index += 1) {
      const tookMs = await firstByte(cluster);
      if (index >= 0) samples.push(tookMs);
    }
    const after = await measureFloor(database);
    return { latency: quantiles(samples), floorP50: (before.sumP50 + after.sumP50) / 2, before, after };
  });
  const what = "HTTP + commit + TLS + 2 fdatasync + spawn through the shim + SSE";
  report(
    "dispatch-latency",
    [
      {
        question: "submit to the script's first byte at the SDK, p50",
        unit: "ms",
        values: runs.map(({ latency }) => latency.p50),
        floor: { what, values: runs.map(({ floorP50 }) => floorP50) },
      },
      {
        question: "submit to the script's first byte at the SDK, p99",
        unit: "ms",
        values: runs.map(({ latency }) => latency.p99),
      },
    ],
    { runs },
  );
} finally {
  await database.end();
  await cluster.stop();
}
