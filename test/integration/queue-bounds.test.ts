// How much may wait, as a client of the HTTP API meets it: 429 with a code, what waits and what may, and when to come again.
import { afterAll, beforeAll, expect, it } from "vitest";
import { enrol } from "../harness/enrolled-agent.ts";
import { apiCaller, type ApiCaller } from "../harness/http.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";

let node: TestNode;
let call: ApiCaller;

beforeAll(async () => {
  node = await startTestNode({ queueLimits: { perAgent: 3, total: 5 } });
  call = apiCaller(node.url, node.apiKey);
  for (const name of ["idle-01", "idle-02", "idle-03"]) await enrol(node, { name });
});
afterAll(() => node.stop());

const spec = { kind: "no-op" };
const submit = (names: readonly string[], key?: string) =>
  call(
    "POST",
    "/api/v1/submissions",
    { tasks: names.map((on) => ({ on, spec })) },
    key === undefined ? {} : { "idempotency-key": key },
  );
const times = (name: string, count: number) => Array<string>(count).fill(name);

it("a queue that is full refuses more, as a whole, until something of it has ended; repeats are answered", async () => {
  const first = await submit(times("idle-01", 3), "first");
  expect(first.status).toBe(201);

  const refused = await submit(["idle-02", "idle-01"], "second");
  expect(refused).toMatchObject({
    status: 429,
    body: {
      code: "queue.full",
      message: "3 tasks wait for agent idle-01 and the submission adds 1; at most 3 may wait",
      mend: expect.stringContaining("cancel"),
    },
  });
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
  expect((await node.client.tasks.list({ agent: "idle-02" })).items).toEqual([]);
  expect(await submit(times("idle-01", 3), "first")).toMatchObject({
    status: 201,
    body: { id: first.body.id, repeated: true },
  });

  expect((await submit(["idle-02", "idle-02"])).status).toBe(201);
  expect(await submit(["idle-03"])).toMatchObject({
    status: 429,
    body: {
      code: "queue.full",
      message: "5 tasks wait in the cluster and the submission adds 1; at most 5 may wait",
    },
  });

  for (const { id } of first.body.tasks) await node.client.tasks.cancel(id);
  await expect
    .poll(async () => (await submit(["idle-02", "idle-01"], "second")).status, { timeout: 20_000, interval: 500 })
    .toBe(201);
});

it("what would not fit an empty queue either is refused for good, with what would fit", async () => {
  const refused = await submit(times("idle-03", 4));
  expect(refused).toMatchObject({
    status: 400,
    body: {
      code: "request.invalid",
      message: "the submission queues 4 tasks for agent idle-03; at most 3 may wait",
      mend: expect.stringContaining("at most 3"),
    },
  });
  expect(refused.headers.get("retry-after")).toBeNull();
});

it("a retry waits like a submission: it is refused while the agent's queue is full", async () => {
  for (const { id } of (await node.client.tasks.list({ state: "queued" })).items) await node.client.tasks.cancel(id);
  await expect
    .poll(async () => (await submit(times("idle-03", 3), "retried")).status, { timeout: 20_000, interval: 500 })
    .toBe(201);
  const { tasks } = (await submit(times("idle-03", 3), "retried")).body;
  const [first = "", second = ""] = tasks.map(({ id }: { id: string }) => id);
  await node.client.tasks.cancel(first);
  await expect
    .poll(async () => (await submit(["idle-03"], "another")).status, { timeout: 20_000, interval: 500 })
    .toBe(201);
  await expect(node.client.tasks.retry(first)).rejects.toMatchObject({
    code: "queue.full",
    message: "3 tasks wait for agent idle-03; at most 3 may wait",
  });
  expect((await node.client.tasks.show(first)).attempts).toHaveLength(1);
  await node.client.tasks.cancel(second);
  await expect
    .poll(async () => node.client.tasks.retry(first).then(({ state }) => state, String), {
      timeout: 20_000,
      interval: 500,
    })
    .toBe("queued");
});
