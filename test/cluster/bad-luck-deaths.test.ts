// Processes that die or stand still in the middle of scripts: agent, server and PostgreSQL. One start per attempt, the
// complete log, the right exit code, and nothing that was answered with 201 is lost.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RunHandle } from "../../sdk/run-handle.ts";
import { TestCluster, type TestAgent } from "../harness/cluster.ts";
import { eventually } from "../harness/eventually.ts";
import { apiCaller } from "../harness/http.ts";
import { isAlive, signalAll, treeOf } from "../harness/process.ts";
import { countedLines, countingScript, hasEnded, startsIn } from "../harness/script-truth.ts";

let cluster: TestCluster;
let web: TestAgent;
let truths = 0;

beforeAll(async () => {
  cluster = await TestCluster.start();
  web = await cluster.startAgent({ name: "web-01" });
});
afterAll(async () => {
  await cluster.stop();
});

interface Counted {
  readonly handle: RunHandle;
  readonly id: string;
  readonly truth: string;
  readonly count: number;
}

/** A script that tells of every start of its own, and has begun when this resolves. */
async function counting(count: number, pauseSeconds: number): Promise<Counted> {
  const truth = join(cluster.folder, `truth-${(truths += 1)}`);
  const handle = await cluster.client.run({
    on: "web-01",
    script: countingScript(truth, { count, pauseSeconds, exitCode: 3 }),
  });
  await eventually("the script runs", () => ({ done: startsIn(truth) === 1, state: startsIn(truth) }));
  return { handle, id: handle.tasks[0]?.id ?? "", truth, count };
}

async function expectWhole({ handle, id, truth, count }: Counted): Promise<void> {
  const lines: string[] = [];
  for await (const line of handle.log()) lines.push(`${line.text}\n`);
  expect(lines.join("")).toBe(countedLines(count));
  expect(await cluster.finished(id)).toMatchObject({ state: "failed", exitCode: 3, attempts: [{ number: 1 }] });
  expect(startsIn(truth)).toBe(1);
}

function postmaster(): number {
  const pid = cluster.postmasterPid;
  if (pid === undefined) throw new Error("no postmaster");
  return pid;
}

async function ready(): Promise<void> {
  await eventually(
    "the server is ready",
    async () => {
      const { status, text } = await apiCaller(cluster.server.url, cluster.apiKey)("GET", "/readyz");
      return { done: status === 200, state: text };
    },
    { limitMs: 60_000 },
  );
}

describe("kill -9 in the middle of scripts", () => {
  it("of the agent, three times, leaves every script running and its log whole", async () => {
    const scripts = [await counting(60, 0.1), await counting(60, 0.1), await counting(60, 0.1)];
    for (let death = 0; death < 3; death += 1) {
      web.program.kill("SIGKILL");
      await web.program.exited;
      await cluster.restartAgent(web);
    }
    for (const script of scripts) await expectWhole(script);
  });

  it("of the agent in a burst of submissions starts each script once and loses none", async () => {
    const truth = join(cluster.folder, "truth-burst");
    const handles = Array.from({ length: 40 }, () =>
      cluster.client.run({ on: "web-01", script: `echo "start $HOLDFAST_ATTEMPT_ID" >> '${truth}'; echo done` }),
    );
    await eventually("some have run", () => ({ done: startsIn(truth) >= 3, state: startsIn(truth) }));
    web.program.kill("SIGKILL");
    await web.program.exited;
    await cluster.restartAgent(web);
    for (const handle of await Promise.all(handles))
      expect(await handle.result()).toMatchObject({ state: "succeeded", exitCode: 0 });
    expect(startsIn(truth)).toBe(40);
  });

  it("of the server leaves the database running, the script too, and the next start takes both over", async () => {
    const scripts = [await counting(50, 0.1), await counting(50, 0.1)];
    const before = postmaster();
    cluster.server.program.kill("SIGKILL");
    await cluster.server.program.exited;
    expect(isAlive(before)).toBe(true);
    const submitting = cluster.client.run({ on: "web-01", script: "exit 4" });
    await cluster.restartServer();
    expect(postmaster()).toBe(before);
    for (const script of scripts) await expectWhole(script);
    expect(await (await submitting).result()).toMatchObject({ exitCode: 4 });
  });

  it("of server and agent together loses nothing either", async () => {
    const script = await counting(50, 0.1);
    cluster.server.program.kill("SIGKILL");
    web.program.kill("SIGKILL");
    await Promise.all([cluster.server.program.exited, web.program.exited]);
    await cluster.restartServer();
    await cluster.restartAgent(web);
    await expectWhole(script);
  });

  it("of a script's end while nobody is there delivers its result afterwards", async () => {
    const script = await counting(5, 0.5);
    // The script knows of its start before the node has stored it.
    await eventually("the task is told to run", async () => {
      const { state } = await cluster.task(script.id);
      return { done: state === "running", state };
    });
    cluster.server.program.kill("SIGKILL");
    web.program.kill("SIGKILL");
    await Promise.all([cluster.server.program.exited, web.program.exited]);
    await eventually("the script has ended", () => ({ done: hasEnded(script.truth), state: script.truth }));
    await cluster.restartServer();
    expect(await cluster.task(script.id)).toMatchObject({ state: "running" });
    await cluster.restartAgent(web);
    await expectWhole(script);
  });

  it("of PostgreSQL is mended by the server: submissions meanwhile are answered 503 or stored, and none is lost", async () => {
    const script = await counting(80, 0.1);
    const before = postmaster();
    const call = apiCaller(cluster.server.url, cluster.apiKey);
    const keys: string[] = [];
    const submit = async (
      key: string,
    ): Promise<{ key: string; status: number; id: string | undefined; retryAfter: string | null }> => {
      const { status, body, headers } = await call(
        "POST",
        "/api/v1/submissions",
        { on: "web-01", spec: { kind: "no-op" } },
        { "idempotency-key": key },
      );
      return { key, status, id: body.id, retryAfter: headers.get("retry-after") };
    };
    const answers: Awaited<ReturnType<typeof submit>>[] = [];
    signalAll(treeOf(before), "SIGKILL");
    await eventually(
      "PostgreSQL runs again under another pid and takes submissions",
      async () => {
        const key = `while-away-${keys.length}`;
        keys.push(key);
        const answer = await submit(key);
        answers.push(answer);
        return { done: answer.status === 201 && cluster.postmasterPid !== before, state: answer };
      },
      { limitMs: 60_000 },
    );
    const answered = (wanted: number) => answers.filter(({ status }) => status === wanted);
    const [stored, refused] = [answered(201), answered(503)];
    process.stdout.write(
      `PostgreSQL killed: ${refused.length} of ${answers.length} submissions meanwhile answered 503\n`,
    );
    expect(stored.length + refused.length).toBe(answers.length);
    for (const { retryAfter } of refused) expect(Number(retryAfter)).toBeGreaterThanOrEqual(1);
    await expectWhole(script);
    for (const { key, id } of stored) expect(await submit(key)).toMatchObject({ status: 201, id });
    for (const { key } of refused) expect(await submit(key)).toMatchObject({ status: 201 });
  });
});

describe("PostgreSQL that stands still for 10 s", () => {
  it("delays and loses nothing: the server lives, the script runs on, its log and later submissions arrive", async () => {
    const script = await counting(150, 0.1);
    const call = apiCaller(cluster.server.url, cluster.apiKey);
    const tree = treeOf(postmaster());
    signalAll(tree, "SIGSTOP");
    const beganMs = performance.now();
    const submitting = cluster.client.run({ on: "web-01", script: "exit 6" });
    const health: number[] = [];
    try {
      await eventually("10 s have passed", async () => {
        health.push((await call("GET", "/healthz")).status);
        return { done: performance.now() - beganMs > 10_000, state: health };
      });
    } finally {
      signalAll(tree.toReversed(), "SIGCONT");
    }
    expect(new Set(health)).toEqual(new Set([200]));
    await ready();
    await expectWhole(script);
    expect(await (await submitting).result()).toMatchObject({ exitCode: 6 });
    expect((await cluster.client.agents.show("web-01")).connection).toBe("fully");
    expect(cluster.server.program.isRunning).toBe(true);
  });
});
