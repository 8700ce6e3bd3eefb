// PostgreSQL killed -9 under load and away for 60 s (fault 67): submissions meanwhile are refused with a clear code or stored,
// agents stay connected, scripts run on and end, and when it is back nothing is lost, nothing starts twice, every log is
// whole, and a refused submission sent once more under its key runs once. The truth is what the scripts wrote themselves.
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually } from "../harness/eventually.ts";
import { apiCaller } from "../harness/http.ts";
import { startMortalPostgres, type MortalPostgres } from "../harness/mortal-postgres.ts";
import { ProcessNodes, type Counted, type ProcessNode } from "../harness/process-nodes.ts";
import { queryRows } from "../harness/query.ts";
import { countingScript, hasEnded, startsIn } from "../harness/script-truth.ts";

const agents = ["web-01", "web-02", "web-03"];
const perSecond = 2;
const awayMs = 60_000;
const short = { count: 10, pauseSeconds: 0.1 };
const long = { count: 450, pauseSeconds: 0.2 };

let postgres: MortalPostgres;
let cluster: ProcessNodes;

beforeAll(async () => {
  postgres = await startMortalPostgres();
  cluster = await ProcessNodes.start(["node-a", "node-b"], agents, { postgresUrl: postgres.url });
});
afterAll(async () => {
  await postgres?.comeBack();
  await cluster?.[Symbol.asyncDispose]();
  await postgres?.stop();
});

interface Submitted {
  readonly no: number;
  readonly agent: string;
  readonly truth: string;
  readonly status: number;
  readonly code: unknown;
  readonly retryAfter: string | null;
  readonly id: string | undefined;
  readonly answeredMs: number;
}

/** A script without a word of output that ends while the database is away: its result alone has to wait. */
async function silent(agent: string, through: ProcessNode): Promise<Counted> {
  const truth = join(cluster.folder, `silent-${agent}`);
  const lines = [
    `echo "start $HOLDFAST_ATTEMPT_ID" >> '${truth}'`,
    "sleep 40",
    `echo "end $HOLDFAST_ATTEMPT_ID" >> '${truth}'`,
  ];
  const handle = await through.client.run({ on: agent, script: lines.join("\n") });
  return { agent, id: handle.tasks[0]?.id ?? "", truth, count: 0 };
}

/** One submission under a key of its own, as a client without retries sends it. */
async function submit(no: number, through: ProcessNode): Promise<Submitted> {
  const agent = agents[no % agents.length] ?? "";
  const truth = join(cluster.folder, `load-${no}`);
  const call = apiCaller(through.server.url, cluster.cluster.apiKey);
  const spec = { kind: "script", script: countingScript(truth, short) };
  const { status, headers, body } = await call(
    "POST",
    "/api/v1/submissions",
    { on: agent, spec },
    { "idempotency-key": `load-${no}` },
  );
  const answer = { status, code: body["code"], retryAfter: headers.get("retry-after"), id: body.tasks[0]?.id };
  return { no, agent, truth, ...answer, answeredMs: performance.now() };
}

const nodeOf = (no: number): ProcessNode => cluster.nodes[no % cluster.nodes.length] ?? cluster.named("node-a");

async function standing(path: "/healthz" | "/readyz"): Promise<number[]> {
  const answers = cluster.nodes.map(({ server }) => apiCaller(server.url, cluster.cluster.apiKey)("GET", path));
  return (await Promise.all(answers)).map(({ status }) => status);
}

it(
  "PostgreSQL killed and away for a minute under load loses, repeats and cuts nothing",
  { timeout: 400_000 },
  async () => {
    const spanning = await Promise.all(agents.map((agent, no) => cluster.counting(nodeOf(no), agent, long)));
    const quiet = await Promise.all(agents.map((agent, no) => silent(agent, nodeOf(no))));
    const sent: Promise<Submitted>[] = [];
    const loading = setInterval(() => sent.push(submit(sent.length, nodeOf(sent.length))), 1_000 / perSecond);
    try {
      await eventually("there is load", () => ({ done: sent.length >= 20, state: sent.length }));

      expect(quiet.filter(({ truth }) => hasEnded(truth))).toEqual([]);
      postgres.kill();
      const killedMs = performance.now();
      const runningMs = await eventually(
        "the database has been away for most of its time",
        () => ({ done: performance.now() - killedMs > awayMs - 5_000, state: performance.now() - killedMs }),
        { limitMs: awayMs },
      );
      expect(runningMs).toBeLessThan(awayMs);
      // The process is well, and not to be sent users.
      expect(await standing("/healthz")).toEqual([200, 200]);
      expect(await standing("/readyz")).toEqual([503, 503]);
      expect(spanning.filter(({ truth }) => hasEnded(truth))).toEqual([]);
      expect(quiet.filter(({ truth }) => !hasEnded(truth))).toEqual([]);
      await eventually("it has been away for a minute", () => ({
        done: performance.now() - killedMs > awayMs,
        state: performance.now() - killedMs,
      }));
      const startedMs = performance.now();
      await postgres.comeBack();
      const backMs = performance.now();
      const sentBefore = sent.length;
      await eventually("there is load again", () => ({ done: sent.length >= sentBefore + 20, state: sent.length }));
      clearInterval(loading);

      const answers = await Promise.all(sent);
      const stored = answers.filter(({ status }) => status === 201);
      const refused = answers.filter(({ status }) => status === 503);
      expect(stored.length + refused.length).toBe(answers.length);
      expect(refused.length).toBeGreaterThan((awayMs / 1_000) * perSecond * 0.5);
      for (const { code, retryAfter } of refused) {
        expect(["database.unavailable", "submission.outcome-unknown"]).toContain(code);
        expect(Number(retryAfter)).toBeGreaterThanOrEqual(1);
      }
      const resumedMs =
        Math.min(...stored.map(({ answeredMs }) => answeredMs).filter((atMs) => atMs > backMs)) - backMs;
      process.stdout.write(
        `PostgreSQL away for ${((backMs - killedMs) / 1_000).toFixed(1)} s (${((backMs - startedMs) / 1_000).toFixed(1)} s of them its recovery): ` +
          `${stored.length} submissions stored, ${refused.length} refused, the first stored ${resumedMs.toFixed(0)} ms after it was back\n`,
      );
      // Fault 67 allows 2 s; half a second is the distance of two submissions.
      expect(resumedMs).toBeLessThan(2_500);

      const repeated = await Promise.all(refused.map(({ no }) => submit(no, nodeOf(no + 1))));
      expect(repeated.filter(({ status }) => status !== 201)).toEqual([]);
      for (const { no, id } of stored.slice(-5)) expect((await submit(no, nodeOf(no + 1))).id).toBe(id);
      const reader = cluster.named("node-b");
      for (const one of [...stored, ...repeated]) await cluster.expectWhole(countedOf(one), reader);
      for (const one of [...quiet, ...spanning]) await cluster.expectWhole(one, cluster.named("node-a"));
      const [row] = await queryRows(cluster.database.url, "select count(*)::int as count from attempt");
      expect(row?.["count"]).toBe(answers.length + quiet.length + spanning.length);
      expect(answers.reduce((sum, { truth }) => sum + startsIn(truth), 0)).toBe(answers.length);
      // Nobody dialled again: the sessions outlived the database.
      for (const { program } of cluster.cluster.agents)
        expect(program.output.match(/session open/g)).toHaveLength(cluster.nodes.length);
    } finally {
      clearInterval(loading);
    }
  },
);

function countedOf({ agent, id, truth }: Submitted): Counted {
  return { agent, id: id ?? "", truth, count: short.count };
}
