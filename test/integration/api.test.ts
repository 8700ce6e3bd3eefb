// The HTTP API of a real node on a real PostgreSQL: bad input, idempotency, paging, cancel, logs, followed streams.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Agent } from "../../agent/agent.ts";
import { formatApiKey } from "../../shared/api/api-key.ts";
import type { TaskView } from "../../shared/api/tasks.ts";
import { apiKeyIdSchema, createIdSource, newId } from "../../shared/ids.ts";
import { systemClock } from "../../shared/clock.ts";
import { SystemRandom } from "../../shared/random.ts";
import { isFinal } from "../../shared/task.ts";
import { sha256 } from "../../shared/thumbprint.ts";
import { connected, enrol, startAgentOn } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import { apiCaller, readEvents, type ApiCaller } from "../harness/http.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";

let node: TestNode;
let agent: Agent;
let call: ApiCaller;

beforeAll(async () => {
  node = await startTestNode();
  call = apiCaller(node.url, node.apiKey);
  agent = await startAgentOn(await enrol(node, { name: "web-01", labels: { role: "web" } }));
  await enrol(node, { name: "idle-01" });
  await connected(node, "web-01");
});
afterAll(async () => {
  await agent.stop();
  await node.stop();
});

const noop = { kind: "no-op" } as const;
const script = (text: string) => ({ kind: "script", script: text });
const rows = (text: string, values: readonly unknown[] = []) => queryRows(node.databaseUrl, text, values);
const submissions = async (): Promise<unknown> => (await rows("select count(*)::int as n from submission"))[0]?.["n"];

async function finished(id: string): Promise<TaskView> {
  return await eventually(`task ${id} is final`, async () => {
    const task = await node.client.tasks.show(id);
    return { done: isFinal(task.state), state: task };
  });
}

describe("a submission", () => {
  it("to an agent nobody enrolled is answered 404 with its name, and stores nothing", async () => {
    const before = await submissions();
    const single = await call("POST", "/api/v1/submissions", { on: "web-01,nobody", spec: noop });
    expect(single).toMatchObject({
      status: 404,
      body: {
        code: "agent.unknown",
        message: expect.stringContaining("nobody"),
        mend: expect.stringContaining("agents list"),
      },
    });
    const batch = await call("POST", "/api/v1/submissions", {
      tasks: [
        { on: "web-01", spec: noop },
        { on: "nobody", spec: noop },
      ],
    });
    expect(batch).toMatchObject({ status: 404, body: { code: "agent.unknown" } });
    expect(await submissions()).toBe(before);
  });

  it("to a selector that means nobody is answered 404", async () => {
    const answer = await call("POST", "/api/v1/submissions", { on: "role=absent", spec: noop });
    expect(answer).toMatchObject({ status: 404, body: { code: "selector.empty" } });
  });

  it("with a script over 512 KiB is answered 413 with both sizes; one of exactly 512 KiB is taken", async () => {
    const largest = "#".repeat(512 * 1024);
    const over = await call("POST", "/api/v1/submissions", { on: "idle-01", spec: script(`${largest}#`) });
    expect(over).toMatchObject({
      status: 413,
      body: { code: "script.too-large", message: expect.stringMatching(/524289 bytes.*524288/) },
    });
    const inBytes = await call("POST", "/api/v1/submissions", { on: "idle-01", spec: script("é".repeat(262_145)) });
    expect(inBytes).toMatchObject({ status: 413, body: { code: "script.too-large" } });
    expect(await call("POST", "/api/v1/submissions", { on: "idle-01", spec: script(largest) })).toMatchObject({
      status: 201,
    });
  });

  it("with a body over its route's limit is answered 413 with the limit", async () => {
    const tasks = Array.from({ length: 20 }, () => ({ on: "idle-01", spec: script("#".repeat(500_000)) }));
    const answer = await call("POST", "/api/v1/submissions", { tasks });
    expect(answer).toMatchObject({
      status: 413,
      body: { code: "request.too-large", message: expect.stringContaining("8388608") },
    });
    const token = await call("POST", "/api/v1/tokens", { labels: { role: "x".repeat(2 * 1024 * 1024) } });
    expect(token).toMatchObject({
      status: 413,
      body: { code: "request.too-large", message: expect.stringContaining("1048576") },
    });
  });

  it("that is no JSON, of another type or of another form is answered 400 and says what is wrong", async () => {
    const text = (body: string, type = "application/json") =>
      call("POST", "/api/v1/submissions", undefined, { raw: body, "content-type": type });
    expect(await text("{on:")).toMatchObject({
      status: 400,
      body: { code: "request.invalid", message: expect.stringContaining("JSON") },
    });
    expect(await text("")).toMatchObject({ status: 400, body: { code: "request.invalid" } });
    expect(await text("on=web-01", "application/x-www-form-urlencoded")).toMatchObject({
      status: 400,
      body: { code: "request.invalid", message: expect.stringContaining("application/json") },
    });
    expect(await text("[]")).toMatchObject({ status: 400, body: { code: "request.invalid" } });
    const misspelt = await call("POST", "/api/v1/submissions", {
      on: "web-01",
      spec: { kind: "script", script: "true", timeoutMs: "soon" },
    });
    expect(misspelt).toMatchObject({
      status: 400,
      body: { code: "request.invalid", message: expect.stringContaining("timeoutMs") },
    });
    const selector = await call("POST", "/api/v1/submissions", { on: "role=web,,", spec: noop });
    expect(selector).toMatchObject({
      status: 400,
      body: { code: "request.invalid", message: expect.stringContaining("role=web,,") },
    });
  });

  it("that still waits when its queue time is over expires, and its agent never starts it", async () => {
    const answer = await call("POST", "/api/v1/submissions", {
      on: "idle-01",
      spec: script("true"),
      queueTimeoutMs: 1_000,
    });
    const [task] = answer.body.tasks;
    expect(await finished(task?.id ?? "")).toMatchObject({
      state: "expired",
      reason: "queue-time-limit",
      attempts: [{ offers: 0 }],
    });
  });
});

describe("an idempotency key", () => {
  const submit = (key: string, body: object, as: ApiCaller = call) =>
    as("POST", "/api/v1/submissions", body, { "idempotency-key": key });
  const work = { on: "idle-01", spec: script("echo once") };

  it("with the same request gives the same tasks, and with another request 409", async () => {
    const first = await submit("deploy-1", work);
    expect(first).toMatchObject({ status: 201, body: { repeated: false } });
    const again = await submit("deploy-1", { spec: { script: "echo once", kind: "script" }, on: "idle-01" });
    expect(again).toMatchObject({ status: 201, body: { id: first.body.id, tasks: first.body.tasks, repeated: true } });
    const other = await submit("deploy-1", { ...work, spec: script("echo twice") });
    expect(other).toMatchObject({
      status: 409,
      body: { code: "idempotency.mismatch", message: expect.stringContaining("deploy-1") },
    });
  });

  it("is answered with its tasks when the agent they are for was removed since; another request is not", async () => {
    await enrol(node, { name: "leaver-01" });
    const first = await submit("leaver-1", { ...work, on: "leaver-01" });
    await node.client.agents.remove("leaver-01");
    // Names are remembered for a second.
    await eventually("leaver-01 is unknown", async () => {
      const { status } = await submit(`leaver-${Math.random()}`, { ...work, on: "leaver-01" });
      return { done: status === 404, state: status };
    });
    const again = await submit("leaver-1", { ...work, on: "leaver-01" });
    expect(again).toMatchObject({ status: 201, body: { id: first.body.id, tasks: first.body.tasks, repeated: true } });
    const other = await submit("leaver-1", { on: "leaver-01", spec: script("echo twice") });
    expect(other).toMatchObject({ status: 409, body: { code: "idempotency.mismatch" } });
  });

  it("sent many times at once makes one set of tasks", async () => {
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => submit("race-1", { ...work, on: "idle-01,web-01" })),
    );
    expect(
      new Set(answers.map((answer) => JSON.stringify([answer.status, answer.body.id, answer.body.tasks]))),
    ).toHaveLength(1);
    expect(answers.filter((answer) => !answer.body.repeated)).toHaveLength(1);
    const stored = await rows("select count(*)::int as n from task where submission_id = $1", [answers[0]?.body.id]);
    expect(stored).toEqual([{ n: 2 }]);
  });

  it("sent at once with different requests lets one of them win and refuses the others", async () => {
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, no) => submit("race-2", { ...work, spec: script(`echo ${no}`) })),
    );
    expect(answers.map((answer) => `${answer.status}`).toSorted()).toEqual(["201", "409", "409", "409", "409", "409"]);
  });

  it("belongs to its principal: another key's holder makes tasks of its own with it", async () => {
    const other = apiCaller(node.url, await newKey(["tasks:run"]));
    const mine = await submit("shared-name", work);
    const theirs = await submit("shared-name", { ...work, spec: script("echo other") }, other);
    expect(theirs).toMatchObject({ status: 201, body: { repeated: false } });
    expect(theirs.body.id).not.toBe(mine.body.id);
  });
});

async function newKey(scopes: readonly string[]): Promise<string> {
  const id = newId(createIdSource({ clock: systemClock, random: new SystemRandom() }), apiKeyIdSchema);
  const secret = Buffer.from(new SystemRandom().bytes(32)).toString("base64url");
  await rows("insert into api_key (id, name, secret_sha256, scopes) values ($1, 'second', $2, $3)", [
    id,
    sha256(secret),
    JSON.stringify(scopes),
  ]);
  return formatApiKey({ id, secret });
}

describe("one script for very many agents", () => {
  const kind = { labels: { kind: "never-connected" } };
  const large = script(`#${"x".repeat(500_000)}`);

  it("is kept by each of its tasks, and refused where all of them would take more than a statement may", async () => {
    const enrolMany = (count: number) =>
      rows(
        `insert into agent (id, name, labels) select gen_random_uuid(), gen_random_uuid()::text, $2 from generate_series(1, $1)`,
        [count, kind.labels],
      );
    await enrolMany(100);
    const answer = await call("POST", "/api/v1/submissions", { on: kind, spec: large });
    expect(answer.status).toBe(201);
    const stored = await rows(
      "select count(*)::int as tasks, count(distinct agent_id)::int as agents, min(spec) = max(spec) as same, min(length(spec)) > 500000 as whole from task where id = any($1)",
      [answer.body.tasks.map(({ id }) => id)],
    );
    expect(stored).toEqual([{ tasks: 100, agents: 100, same: true, whole: true }]);
    await enrolMany(200);
    expect(await call("POST", "/api/v1/submissions", { on: kind, spec: large })).toMatchObject({
      status: 400,
      body: { code: "request.invalid", message: expect.stringContaining("300 tasks take 15") },
    });
    await rows("delete from agent where labels = $1", [kind.labels]);
  });
});

describe("a batch", () => {
  it("of 1,000 tasks is one submission, listed newest first page by page; one of 1,001 is refused", async () => {
    // As many as may be queued for one agent: into an empty queue they fit.
    await enrol(node, { name: "idle-batch" });
    const tasks = Array.from({ length: 1_000 }, (_, no) => ({ on: "idle-batch", spec: script(`echo ${no}`) }));
    const answer = await call("POST", "/api/v1/submissions", { tasks });
    expect(answer.status).toBe(201);
    const made = answer.body.tasks.map((task) => task.id);
    expect(new Set(made)).toHaveLength(1_000);

    const listed: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await node.client.tasks.list({
        agent: "idle-batch",
        limit: 200,
        ...(cursor === undefined ? {} : { cursor }),
      });
      listed.push(...page.items.map((task) => task.id));
      cursor = page.next ?? undefined;
    } while (cursor !== undefined && listed.length < 5_000);
    expect(cursor).toBeUndefined();
    expect(listed).toEqual(listed.toSorted().toReversed());
    expect(new Set(listed)).toHaveLength(listed.length);
    expect(listed.slice(0, 1_000)).toEqual(made.toReversed());

    const over = await call("POST", "/api/v1/submissions", { tasks: [...tasks, { on: "idle-batch", spec: noop }] });
    expect(over).toMatchObject({
      status: 400,
      body: { code: "request.invalid", message: expect.stringMatching(/1,?000/) },
    });
    const largePage = await call("GET", "/api/v1/tasks?limit=201");
    expect(largePage).toMatchObject({
      status: 400,
      body: { code: "request.invalid", message: expect.stringContaining("limit") },
    });
    expect(await call("GET", "/api/v1/tasks?cursor=nonsense")).toMatchObject({
      status: 400,
      body: { code: "request.invalid" },
    });
  });

  it("of tasks that an agent runs finishes every one of them once", async () => {
    const handle = await node.client.submit({
      tasks: Array.from({ length: 200 }, () => ({ on: "web-01", spec: noop })),
    });
    const results = await handle.results();
    expect(new Set(results.map((task) => task.state))).toEqual(new Set(["succeeded"]));
    expect(new Set(results.flatMap((task) => task.attempts.map((attempt) => attempt.number)))).toEqual(new Set([1]));
  });
});

describe("a cancel", () => {
  it("of a queued task is final at once, and may be repeated", async () => {
    const {
      tasks: [task],
    } = (await call("POST", "/api/v1/submissions", { on: "idle-01", spec: script("true") })).body;
    const cancelled = await call("POST", `/api/v1/tasks/${task?.id}/cancel`);
    expect(cancelled).toMatchObject({ status: 200, body: { state: "cancelled", reason: "before-offer" } });
    const again = await call("POST", `/api/v1/tasks/${task?.id}/cancel`);
    expect(again).toMatchObject({
      status: 200,
      body: { id: task?.id, state: "cancelled", finishedAt: cancelled.body.finishedAt },
    });
  });

  it("of a running task may be repeated and is final once the agent has confirmed", async () => {
    const handle = await node.client.run({ on: "web-01", script: "echo up; exec sleep 4321", graceMs: 200 });
    for await (const piece of handle.bytes()) if ("bytes" in piece) break;
    const id = handle.tasks[0]?.id ?? "";
    const answers = await Promise.all([1, 2, 3].map(() => call("POST", `/api/v1/tasks/${id}/cancel`)));
    for (const answer of answers) expect(answer).toMatchObject({ status: 200, body: { cancelRequested: true } });
    expect(await finished(id)).toMatchObject({ state: "cancelled" });
  });

  it("of a task that ended by itself is answered 409 and changes nothing; of an unknown one 404", async () => {
    const handle = await node.client.run({ on: "web-01", script: "exit 4" });
    const [ended] = await handle.results();
    const answer = await call("POST", `/api/v1/tasks/${ended?.id}/cancel`);
    expect(answer).toMatchObject({
      status: 409,
      body: { code: "task.finished", message: expect.stringContaining("failed") },
    });
    expect(await node.client.tasks.show(ended?.id ?? "")).toEqual(ended);
    const unknown = await call("POST", "/api/v1/tasks/0190b7e5-0000-7000-8000-000000000001/cancel");
    expect(unknown).toMatchObject({ status: 404, body: { code: "task.unknown" } });
    expect(await call("POST", "/api/v1/tasks/nonsense/cancel")).toMatchObject({
      status: 404,
      body: { code: "task.unknown" },
    });
  });
});

describe("a log", () => {
  let id: string;
  const out = `out 1\nout 2 \u00e9\n`;
  const err = "err 1\n";

  beforeAll(async () => {
    const handle = await node.client.run({
      on: "web-01",
      script: "printf 'out 1\\nout 2 \\303\\251\\n'; printf 'err 1\\n' >&2",
    });
    id = (await handle.results())[0]?.id ?? "";
  });

  it("is downloaded per stream byte by byte, and both together by default", async () => {
    const download = async (query: string): Promise<string> =>
      (await call("GET", `/api/v1/tasks/${id}/log${query}`)).text;
    expect(await download("?stream=out")).toBe(out);
    expect(await download("?stream=err")).toBe(err);
    // In the order of the time they were seen at.
    const lines = (await download("")).match(/.*\n|.+$/g) ?? [];
    for (const [stream, whole] of Object.entries({ out, err }))
      expect(lines.filter((line) => line.startsWith(stream)).join("")).toBe(whole);
    expect(lines.join("")).toHaveLength(out.length + err.length);
    expect(await call("GET", `/api/v1/tasks/${id}/log?stream=all`)).toMatchObject({
      status: 400,
      body: { code: "request.invalid" },
    });
    expect(await call("GET", "/api/v1/tasks/nonsense/log")).toMatchObject({
      status: 404,
      body: { code: "task.unknown" },
    });
  });

  it("is followed on from any Last-Event-ID without a byte lost or repeated", async () => {
    const total = Buffer.byteLength(out);
    for (let at = 0; at <= total; at += 1) {
      const events = await readEvents(node, `/api/v1/tasks/${id}/events`, { "last-event-id": `${at}.${err.length}` });
      const bytes = Buffer.concat(
        events.flatMap((event) => (event.event === "log" ? [Buffer.from(event.data.bytes ?? "", "base64")] : [])),
      );
      expect(bytes).toEqual(Buffer.from(out).subarray(at));
      expect(events.at(-1)).toMatchObject({
        event: "end",
        id: `${total}.${err.length}`,
        data: { task: { state: "succeeded" } },
      });
    }
    expect(await call("GET", `/api/v1/tasks/${id}/events`, undefined, { "last-event-id": "x.y" })).toMatchObject({
      status: 400,
      body: { code: "request.invalid" },
    });
  });

  it("is followed through many dropped connections while the script writes", async () => {
    const handle = await node.client.run({
      on: "web-01",
      script: 'for i in $(seq 1 200); do echo "line $i"; sleep 0.005; done',
    });
    const task = handle.tasks[0]?.id ?? "";
    const pieces: Buffer[] = [];
    let position = "0.0";
    let connections = 0;
    for (let over = false; !over;) {
      connections += 1;
      const events = await readEvents(
        node,
        `/api/v1/tasks/${task}/events`,
        { "last-event-id": position },
        { mostLogEvents: 2 },
      );
      for (const event of events) {
        if (event.event === "log") pieces.push(Buffer.from(event.data.bytes ?? "", "base64"));
        over ||= event.event === "end";
        position = event.id;
      }
      expect(connections).toBeLessThan(400);
    }
    expect(connections).toBeGreaterThan(3);
    expect(Buffer.concat(pieces).toString()).toBe(Array.from({ length: 200 }, (_, no) => `line ${no + 1}\n`).join(""));
  });
});
