// kill -9 of the node at each hand-over of an attempt (faults 1 to 7), at the named step, in a cluster of three: whatever the
// node had done by then, there is one task, one start, the whole log and the right end, and the task's history says how it
// went. The truth is what the script wrote itself; what the database held at the moment of death is read there.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { TaskView } from "../../shared/api/tasks.ts";
import type { Program } from "../../demo/processes.ts";
import { eventually } from "../harness/eventually.ts";
import { Failpoints, type Harm } from "../harness/failpoints.ts";
import { apiCaller, type Answer } from "../harness/http.ts";
import { ProcessNodes, type Counted, type ProcessNode } from "../harness/process-nodes.ts";
import { isStopped } from "../harness/process.ts";
import { queryRows } from "../harness/query.ts";
import { countingScript, startsIn } from "../harness/script-truth.ts";

const names = ["node-a", "node-b", "node-c"] as const;
const plan = { count: 20, pauseSeconds: 0.1 };

let folder: string;
let cluster: ProcessNodes;
/** The one that dies, and one that does not. */
let victim: ProcessNode;
let other: ProcessNode;
let failpoints: Failpoints;
let agentSteps: Failpoints;
let submissions = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-failpoints-"));
  failpoints = new Failpoints(folder, "node-b");
  agentSteps = new Failpoints(folder, "web-01");
  cluster = await ProcessNodes.start(names, ["web-01"], {
    environmentOf: (name) => (name === "node-b" ? failpoints.environment : {}),
    agentPlan: { environment: agentSteps.environment },
  });
  victim = cluster.named("node-b");
  other = cluster.named("node-a");
});
afterEach(async () => {
  failpoints.disarm();
  if (!victim.server.program.isRunning) await cluster.again(victim);
  await cluster.connected();
});
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

interface Planned {
  readonly key: string;
  readonly truth: string;
}

/** A script of its own, under a key of its own. */
function planned(): Planned {
  submissions += 1;
  return { key: `hand-over-${submissions}`, truth: join(cluster.folder, `hand-over-${submissions}`) };
}

/** As a client that does not repeat by itself sends it. */
async function submit(through: ProcessNode, { key, truth }: Planned): Promise<Answer> {
  const call = apiCaller(through.server.url, cluster.cluster.apiKey);
  const body = { on: "web-01", spec: { kind: "script", script: countingScript(truth, plan) } };
  return await call("POST", "/api/v1/submissions", body, { "idempotency-key": key });
}

function countedOf({ truth }: Planned, answer: Answer): Counted {
  expect(answer.status).toBe(201);
  return { agent: "web-01", id: answer.body.tasks[0]?.id ?? "", truth, count: plan.count };
}

/** The victim's session has credit: what is submitted to it is offered by it. */
async function offersThroughVictim(): Promise<void> {
  await eventually("what is submitted to the victim is offered by it", async () => {
    submissions += 1;
    const handle = await victim.client.submit({ on: "web-01", spec: { kind: "no-op" } });
    const [task] = await handle.results();
    return { done: task?.attempts[0]?.home === victim.name, state: task };
  });
}

/** From now on the victim dies when it comes by this step. */
async function arm(step: string): Promise<void> {
  failpoints.forgetFired();
  await armed(failpoints, { step, action: "kill" }, victim.server.program);
}

async function armed(points: Failpoints, harm: Harm, program: Program): Promise<void> {
  points.arm([harm]);
  program.kill("SIGUSR2");
  await eventually(`armed: ${harm.step}`, () => ({ done: points.isTaken, state: program.output.slice(-1_000) }));
}

/** Resolves with the moment of death. */
async function diesAt(step: string): Promise<number> {
  await eventually(`the victim dies at: ${step}`, () => ({
    done: failpoints.hasFired({ step, action: "kill" }) && !victim.server.program.isRunning,
    state: failpoints.steps,
  }));
  return performance.now();
}

/** What the database holds of a key. */
async function attemptsOf({ key }: Planned): Promise<readonly { readonly state: string; readonly offers: number }[]> {
  const rows = await queryRows(
    cluster.database.url,
    `select a.state, a.offer_no as offers from attempt a join task t on t.id = a.task_id
       join submission s on s.id = t.submission_id where s.idempotency_key = $1`,
    [key],
  );
  return rows.map((row) => ({ state: String(row["state"]), offers: Number(row["offers"]) }));
}

/** One start, every line once, success; and the one attempt of its history. */
async function wholeHistoryOf(counted: Counted): Promise<TaskView["attempts"][number]> {
  await cluster.expectWhole(counted, other);
  const [attempt, ...more] = (await other.client.tasks.show(counted.id)).attempts;
  if (attempt === undefined) throw new Error("no attempt");
  expect(more).toEqual([]);
  const { createdAt, acceptedAt, startedAt, finishedAt } = attempt;
  const moments = [createdAt, acceptedAt, startedAt, finishedAt].map((moment) => Date.parse(moment ?? ""));
  expect(moments).not.toContain(NaN);
  expect(moments.toSorted((one, next) => one - next)).toEqual(moments);
  expect(attempt).toMatchObject({ number: 1, state: "succeeded", reason: null, exitCode: 0, lateResults: [] });
  return attempt;
}

const survivors = expect.stringMatching(/^node-[ac]$/);

describe("the node that a task was submitted to, killed -9", () => {
  it("before the commit: the client sees a reset, nothing is stored, and its repetition elsewhere makes the task (fault 1)", async () => {
    const task = planned();
    await offersThroughVictim();
    await arm("asking submit-tasks");
    await expect(submit(victim, task)).rejects.toThrow(/fetch failed/);
    await diesAt("asking submit-tasks");
    expect(await attemptsOf(task)).toEqual([]);
    const answer = await submit(other, task);
    expect(answer.body.repeated).toBe(false);
    expect(await wholeHistoryOf(countedOf(task, answer))).toMatchObject({ offers: 1, home: survivors });
  });

  it("after the commit, before the answer: the repetition elsewhere gets the same task (fault 2)", async () => {
    const task = planned();
    await offersThroughVictim();
    await arm("answered submit-tasks");
    await expect(submit(victim, task)).rejects.toThrow(/fetch failed/);
    await diesAt("answered submit-tasks");
    const [stored, ...more] = await attemptsOf(task);
    expect(more).toEqual([]);
    const answers = [await submit(other, task), await submit(cluster.named("node-c"), task)] as const;
    expect(answers.map(({ body }) => body.repeated)).toEqual([true, true]);
    expect(answers[1].body.tasks).toEqual(answers[0].body.tasks);
    // Stored as offered by the dead node (1) or as queued (0), and offered once more.
    const attempt = await wholeHistoryOf(countedOf(task, answers[0]));
    expect(attempt).toMatchObject({ home: survivors, offers: (stored?.offers ?? NaN) + 1 });
  });
});

describe("the node that offers an attempt, killed -9", () => {
  it("with the offer committed and not sent: another offers the same attempt when the window ends (fault 3)", async () => {
    const task = planned();
    await offersThroughVictim();
    await arm("sending offer");
    // The answer may or may not have left before.
    await submit(victim, task).catch(() => undefined);
    const diedMs = await diesAt("sending offer");
    expect(await attemptsOf(task)).toEqual([{ state: "offered", offers: 1 }]);
    expect(startsIn(task.truth)).toBe(0);
    const answer = await submit(other, task);
    expect(answer.body.repeated).toBe(true);
    await eventually("it starts", () => ({ done: startsIn(task.truth) > 0, state: task }));
    const startedMs = performance.now() - diedMs;
    process.stdout.write(`offer never sent: started ${startedMs.toFixed(0)} ms after the death\n`);
    // The window of 3 s, the poll of 1 s, and what a busy machine takes.
    expect(startedMs).toBeLessThan(6_000);
    expect(await wholeHistoryOf(countedOf(task, answer))).toMatchObject({ offers: 2, home: survivors });
  });

  it.each(["sent offer", "received accept"])(
    "with the offer sent and the acceptance not stored, at `%s`: it starts once and is known as what it is (fault 4)",
    async (step) => {
      const task = planned();
      await offersThroughVictim();
      await arm(step);
      await submit(victim, task).catch(() => undefined);
      await diesAt(step);
      // By now the agent may have told another node already what it had accepted.
      expect(await attemptsOf(task)).toMatchObject([{ offers: 1 }]);
      const answer = await submit(other, task);
      expect(answer.body.repeated).toBe(true);
      const attempt = await wholeHistoryOf(countedOf(task, answer));
      expect(attempt.home).toEqual(survivors);
      // What had reached the agent is taken up by its resume; what had not, by a second offer.
      expect(attempt.offers).toBeLessThanOrEqual(step === "received accept" ? 1 : 2);
    },
  );
});

describe("the home of a running script, killed -9", () => {
  /** It runs, and its log flows through the victim. */
  async function running(): Promise<Counted> {
    const task = planned();
    await offersThroughVictim();
    const counted = countedOf(task, await submit(victim, task));
    await eventually("its log flows through the victim", async () => {
      const view = await other.client.tasks.show(counted.id);
      return { done: view.home === victim.name && (view.attempts[0]?.outBytes ?? 0) > 0, state: view };
    });
    return counted;
  }

  it.each(["received log", "answered append-log"])(
    "amid its log, at `%s`: the log goes on elsewhere without a gap or a repetition (fault 5)",
    async (step) => {
      const counted = await running();
      await arm(step);
      await diesAt(step);
      expect(await wholeHistoryOf(counted)).toMatchObject({ offers: 1, home: survivors });
    },
  );

  it("with its result read and not committed: the agent sends it to another (fault 6)", async () => {
    const counted = await running();
    await arm("asking finish-attempts");
    const diedMs = await diesAt("asking finish-attempts");
    await cluster.finished(counted.id, other);
    const storedMs = performance.now() - diedMs;
    process.stdout.write(`result not committed: stored elsewhere ${storedMs.toFixed(0)} ms after the death\n`);
    expect(storedMs).toBeLessThan(2_000);
    expect(await wholeHistoryOf(counted)).toMatchObject({ offers: 1, home: survivors });
  });

  it("with its result committed and not acknowledged: the agent's repetition is acknowledged and changes nothing (fault 7)", async () => {
    const counted = await running();
    await arm("sending result-ack");
    // The agent stands still when an acknowledgement arrives: no other sign of it leaves the agent.
    const acknowledged = { step: "received result-ack", action: "stop" } as const;
    const { program } = cluster.cluster.agents[0] ?? {};
    if (program === undefined) throw new Error("no agent");
    await armed(agentSteps, acknowledged, program);
    await diesAt("sending result-ack");
    const committed = await other.client.tasks.show(counted.id);
    expect(committed).toMatchObject({ state: "succeeded", exitCode: 0, attempts: [{ home: victim.name }] });
    await eventually("another node acknowledges", () => ({
      done: agentSteps.hasFired(acknowledged) && isStopped(program.pid),
      state: program.output.slice(-1_000),
    }));
    program.kill("SIGCONT");
    expect(await wholeHistoryOf(counted)).toMatchObject({ offers: 1, home: victim.name });
    expect(await other.client.tasks.show(counted.id)).toEqual(committed);
  });

  it("leaves behind one task and one line in the audit for each submission, and no second result", async () => {
    const [counts] = await queryRows(
      cluster.database.url,
      `select (select count(*)::int from task) as tasks, (select count(*)::int from attempt where rank < 9 or number > 1) as odd,
         (select count(*)::int from audit where action = 'submit') as audited, (select count(*)::int from late_result) as late`,
    );
    expect(counts).toEqual({ tasks: submissions, odd: 0, audited: submissions, late: 0 });
  });
});
