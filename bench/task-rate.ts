// How many durable no-op tasks one node and 20 agents carry: submitted one by one and 100 at a time over HTTP, run over
// TLS, results in PostgreSQL. Floors in the same run: commits of one row, and rows of batched inserts, on that database.
import { Agent, request } from "node:http";
import { Client } from "pg";
import { startBenchCluster, type BenchCluster } from "./cluster.ts";
import { cpuMs, descendants, repeated, repeatsAsked } from "./measure.ts";
import { report, round, type Answer } from "./result.ts";

const agentCount = 20;
const seconds = 10;
const keepAlive = new Agent({ keepAlive: true, maxSockets: 64 });

interface Plan {
  readonly perSubmission: number;
  readonly inFlight: number;
}

function post(cluster: BenchCluster, body: string): Promise<number> {
  const headers = {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    authorization: `Bearer ${cluster.apiKey}`,
  };
  return new Promise((resolve, reject) => {
    const sent = request(
      `${cluster.server.url}/api/v1/submissions`,
      { agent: keepAlive, method: "POST", headers },
      (response) => {
        response.resume();
        response.once("end", () => resolve(response.statusCode ?? 0));
      },
    );
    sent.once("error", reject);
    sent.end(body);
  });
}

/** Final attempts so far, by the node's own counter: counting rows would cost the database more than the tasks do. */
async function finished(cluster: BenchCluster): Promise<number> {
  const text = await metricsOf(cluster);
  const states = [...text.matchAll(/^holdfast_tasks_finished_total\{state="[^"]+"\} (\S+)$/gm)];
  return states.reduce((sum, match) => sum + Number(match[1]), 0);
}

async function metricsOf(cluster: BenchCluster): Promise<string> {
  const response = await fetch(`${cluster.server.url}/metrics`, {
    headers: { authorization: `Bearer ${cluster.apiKey}` },
  });
  return response.text();
}

function bodyOf(cluster: BenchCluster, plan: Plan, turn: number): string {
  const nameAt = (index: number): string => cluster.agentNames[(turn * 7 + index) % agentCount] ?? "";
  const spec = { kind: "no-op" };
  if (plan.perSubmission === 1) return JSON.stringify({ on: { agents: [nameAt(0)] }, spec });
  return JSON.stringify({
    tasks: Array.from({ length: plan.perSubmission }, (_, index) => ({ on: nameAt(index), spec })),
  });
}

/** Milliseconds and statements by verb so far, from the node's own metrics. */
async function databaseTime(
  cluster: BenchCluster,
): Promise<Map<string, { readonly ms: number; readonly statements: number }>> {
  const text = await metricsOf(cluster);
  const read = (kind: string): Map<string, number> =>
    new Map(
      [...text.matchAll(new RegExp(`^holdfast_database_seconds_${kind}\\{verb="([^"]+)"\\} (\\S+)$`, "gm"))].map(
        (match) => [match[1] ?? "", Number(match[2])],
      ),
    );
  const counts = read("count");
  return new Map(
    [...read("sum")].map(([verb, seconds]) => [verb, { ms: seconds * 1_000, statements: counts.get(verb) ?? 0 }]),
  );
}

async function run(cluster: BenchCluster, plan: Plan) {
  const before = await finished(cluster);
  const serverPid = cluster.server.program.pid;
  const groups = new Map([
    ["server", [serverPid]],
    ["postgres", descendants(serverPid)],
    ["agents", cluster.agents.map((agent) => agent.pid)],
    ["client", [process.pid]],
  ]);
  const used = (pids: readonly number[]): number => pids.reduce((total, pid) => total + cpuMs(pid), 0);
  const cpuBefore = new Map([...groups].map(([name, pids]) => [name, used(pids)]));
  const databaseBefore = await databaseTime(cluster);
  const startMs = performance.now();
  const endMs = startMs + seconds * 1_000;
  let submitted = 0;
  const refused = new Map<number, number>();
  await Promise.all(
    Array.from({ length: plan.inFlight }, async (_, worker) => {
      for (let turn = worker; performance.now() < endMs; turn += plan.inFlight) {
        const status = await post(cluster, bodyOf(cluster, plan, turn));
        if (status === 201) submitted += plan.perSubmission;
        else refused.set(status, (refused.get(status) ?? 0) + 1);
      }
    }),
  );
  const submitMs = performance.now() - startMs;
  const limitMs = performance.now() + 180_000;
  for (let done = 0; done < submitted; done = (await finished(cluster)) - before) {
    if (performance.now() > limitMs) throw new Error(`${done} of ${submitted} tasks finished`);
    await new Promise((resolve) => void setTimeout(resolve, 100));
  }
  const elapsedMs = performance.now() - startMs;
  const cpuMsPerTask = Object.fromEntries(
    [...groups].map(([name, pids]) => [name, round((used(pids) - (cpuBefore.get(name) ?? 0)) / submitted)]),
  );
  const statements = [...(await databaseTime(cluster))].flatMap(([verb, { ms, statements: count }]) => {
    const earlier = databaseBefore.get(verb) ?? { ms: 0, statements: 0 };
    const spent = {
      msPerTask: round((ms - earlier.ms) / submitted),
      tasksPerStatement: round(submitted / (count - earlier.statements)),
    };
    return spent.msPerTask >= 0.001 ? [[verb, spent] as const] : [];
  });
  return {
    submitted,
    refused: Object.fromEntries(refused),
    submittedPerSecond: Math.round((submitted / submitMs) * 1_000),
    finishedPerSecond: Math.round((submitted / elapsedMs) * 1_000),
    cpuMsPerTask,
    database: Object.fromEntries(statements),
  };
}

async function floors(database: Client) {
  await database.query(
    "create table if not exists bench_floor (id bigserial primary key, a uuid default gen_random_uuid(), b text)",
  );
  const commits = await rate(async () => {
    await database.query("insert into bench_floor (b) values ('x')");
    return 1;
  });
  const batched = await rate(async () => {
    await database.query("insert into bench_floor (b) select 'x' from generate_series(1, 1000)");
    return 1_000;
  });
  await database.query("drop table bench_floor");
  return { commitsPerSecondOneConnection: commits, batchedRowsPerSecond: batched };
}

async function rate(act: () => Promise<number>): Promise<number> {
  const startMs = performance.now();
  let count = 0;
  while (performance.now() - startMs < 3_000) count += await act();
  return Math.round((count / (performance.now() - startMs)) * 1_000);
}

const cluster = await startBenchCluster(agentCount);
const database = new Client({ connectionString: cluster.databaseUrl });
try {
  await database.connect();
  await run(cluster, { perSubmission: 1, inFlight: 16 });
  const runs = await repeated(repeatsAsked(3), async () => ({
    single: await run(cluster, { perSubmission: 1, inFlight: 64 }),
    batched: await run(cluster, { perSubmission: 100, inFlight: 8 }),
    floors: await floors(database),
  }));
  const commits = {
    what: "commits of one row on one connection",
    values: runs.map((one) => one.floors.commitsPerSecondOneConnection),
  };
  const rows = { what: "rows inserted by the thousand", values: runs.map((one) => one.floors.batchedRowsPerSecond) };
  const cpu = (one: (typeof runs)[number]["single"]): number =>
    Object.values(one.cpuMsPerTask).reduce((sum, ms) => sum + ms, 0);
  const answers = (["single", "batched"] as const).flatMap((how): Answer[] => {
    const tasks = how === "single" ? "submitted one by one" : "submitted by the hundred";
    const floor = how === "single" ? commits : rows;
    const rate = (which: "submittedPerSecond" | "finishedPerSecond"): number[] => runs.map((one) => one[how][which]);
    return [
      { question: `no-op tasks ${tasks}, submitted`, unit: "/s", values: rate("submittedPerSecond"), floor },
      { question: `no-op tasks ${tasks}, finished`, unit: "/s", values: rate("finishedPerSecond"), floor },
      { question: `CPU of a no-op task ${tasks}`, unit: "ms", values: runs.map((one) => cpu(one[how])) },
    ];
  });
  report("task-rate", answers, { agents: agentCount, seconds, runs });
} finally {
  await database.end();
  await cluster.stop();
  keepAlive.destroy();
}
