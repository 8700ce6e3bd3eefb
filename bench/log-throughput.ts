// How fast output gets from scripts into the database, one and ten scripts at once, and what memory that takes. Floor of the
// same run: the same bytes as 64 KiB rows of bytea, thirty-two to a statement, on that PostgreSQL.
import { readFileSync } from "node:fs";
import { Client } from "pg";
import { startBenchCluster, type BenchCluster } from "./cluster.ts";
import { repeated, repeatsAsked } from "./measure.ts";
import { report, round, type Answer } from "./result.ts";

const mib = 1024 * 1024;
/** Less than a spool keeps of a stream, so that nothing is left out however slow the way is. */
const bytesPerScript = 48 * mib;
const floorBytes = 256 * mib;

async function floor(cluster: BenchCluster): Promise<number> {
  const database = new Client({ connectionString: cluster.databaseUrl });
  await database.connect();
  try {
    await database.query("create table bench_log (id bigint generated always as identity, content bytea)");
    await database.query("alter table bench_log alter column content set storage external");
    const piece = Buffer.alloc(64 * 1024, "a line of a log, as long as lines of logs are\n");
    const rows = Array.from({ length: 32 }, () => piece);
    await database.query("set synchronous_commit = off");
    const startMs = performance.now();
    for (let sent = 0; sent < floorBytes; sent += piece.length * rows.length)
      await database.query("insert into bench_log (content) select * from unnest($1::bytea[])", [rows]);
    const tookMs = performance.now() - startMs;
    await database.query("drop table bench_log");
    return floorBytes / mib / (tookMs / 1_000);
  } finally {
    await database.end();
  }
}

function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_024;
}

async function stream(cluster: BenchCluster, scripts: number) {
  const [agent] = cluster.agents;
  const pids = { node: cluster.server.program.pid, agent: agent?.pid ?? 0 };
  const before = { node: residentMiB(pids.node), agent: residentMiB(pids.agent) };
  const most = { ...before };
  const watch = setInterval(() => {
    for (const who of ["node", "agent"] as const) most[who] = Math.max(most[who], residentMiB(pids[who]));
  }, 100);
  try {
    const script = `yes 'a line of a log, as long as lines of logs are' | head -c ${bytesPerScript}`;
    const spec = { kind: "script" as const, interpreter: "sh", script };
    const startMs = performance.now();
    const run = await cluster.client.submit({
      tasks: Array.from({ length: scripts }, () => ({ on: "agent-0", spec })),
    });
    const tasks = await run.results();
    const tookMs = performance.now() - startMs;
    if (tasks.some(({ state, attempts }) => state !== "succeeded" || attempts[0]?.outBytes !== bytesPerScript))
      throw new Error("a log is not whole");
    const grown = { node: round(most.node - before.node), agent: round(most.agent - before.agent) };
    return {
      scripts,
      mibPerSecond: round((scripts * bytesPerScript) / mib / (tookMs / 1_000)),
      residentMiBGrown: grown,
    };
  } finally {
    clearInterval(watch);
  }
}

const cluster = await startBenchCluster(1);
try {
  await stream(cluster, 1);
  const runs = await repeated(repeatsAsked(3), async () => ({
    floor: await floor(cluster),
    "one script": await stream(cluster, 1),
    "ten scripts": await stream(cluster, 10),
  }));
  const answers = (["one script", "ten scripts"] as const).flatMap((scripts): Answer[] => [
    {
      question: `log of ${scripts} into the database`,
      unit: "MiB/s",
      values: runs.map((run) => run[scripts].mibPerSecond),
      floor: { what: "the same bytes as rows of bytea", values: runs.map((run) => run.floor) },
    },
    ...(["node", "agent"] as const).map((who) => ({
      question: `log of ${scripts}: memory grown, ${who}`,
      unit: "MiB",
      values: runs.map((run) => run[scripts].residentMiBGrown[who]),
    })),
  ]);
  report("log-throughput", answers, { mibPerScript: bytesPerScript / mib });
} finally {
  await cluster.stop();
}
