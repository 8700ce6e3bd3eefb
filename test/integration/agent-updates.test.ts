// Asking agents to update themselves, at a real node and a real agent that runs from sources and so refuses: what is stored,
// who may ask, what is audited. That an agent does it is the cluster test's.
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Agent } from "../../agent/agent.ts";
import { formatApiKey } from "../../shared/api/api-key.ts";
import { apiKeyIdSchema, createIdSource, newId } from "../../shared/ids.ts";
import { systemClock } from "../../shared/clock.ts";
import { SystemRandom } from "../../shared/random.ts";
import { connected, enrol, startAgentOn } from "../harness/enrolled-agent.ts";
import { apiCaller, type ApiCaller } from "../harness/http.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";

const file = `holdfast-agent-${process.platform}-${process.arch}`;
const content = "an executable";
const sha256 = createHash("sha256").update(content).digest("hex");

let node: TestNode;
let agent: Agent;
let folder = "";
let call: ApiCaller;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-served-"));
  await writeFile(join(folder, file), content);
  node = await startTestNode({ agentExecutables: folder });
  call = apiCaller(node.url, node.apiKey);
  agent = await startAgentOn(await enrol(node, { name: "web-01" }));
  await connected(node, "web-01");
});
afterAll(async () => {
  await agent.stop();
  await node.stop();
  await rm(folder, { recursive: true, force: true });
});

const request = { agents: ["web-01"], sums: { [file]: sha256 }, servers: ["http://127.0.0.1:1"] };
const rows = (text: string, values: readonly unknown[] = []) => queryRows(node.databaseUrl, text, values);

test("an agent that runs from sources refuses for good and says how it is updated; the act is audited once", async () => {
  expect(await node.client.agents.executables()).toMatchObject({ [file]: sha256 });
  const run = await node.client.agents.update(request, { idempotencyKey: "k-1" });
  const again = await node.client.agents.update(request, { idempotencyKey: "k-1" });
  expect([again.id, again.repeated]).toEqual([run.id, true]);
  const [task] = await run.results();
  expect(task).toMatchObject({
    state: "refused",
    lane: "system",
    reason: expect.stringMatching(/^unsupported: .*update it the way it was installed/),
    spec: { kind: "update", title: `update the agent to ${sha256.slice(0, 12)}` },
  });
  const audited = await rows(
    "select action, target, detail from audit where action in ('submit', 'agent-update') order by id",
  );
  const { id } = await node.client.agents.show("web-01");
  expect(audited).toEqual([
    { action: "submit", target: run.id, detail: { tasks: 1 } },
    { action: "agent-update", target: run.id, detail: { agents: [id], sums: [sha256] } },
  ]);
  await expect(node.client.tasks.retry(task?.id ?? "")).rejects.toMatchObject({
    code: "request.invalid",
    mend: expect.stringContaining("agents update"),
  });
});

test("a repeated key is answered with what it stored, though the node serves another version and the agent is gone", async () => {
  const asked = { ...request, greetMs: 1_000 };
  const run = await node.client.agents.update(asked, { idempotencyKey: "k-2" });
  await run.results();
  const repeated = async (): Promise<unknown> => {
    const again = await node.client.agents.update(asked, { idempotencyKey: "k-2" });
    return [again.id, again.repeated, again.tasks.map(({ agent }) => agent)];
  };
  const stored = [run.id, true, ["web-01"]];
  await writeFile(join(folder, file), "the next executable");
  try {
    await expect.poll(async () => (await node.client.agents.executables())[file]).not.toBe(sha256);
    expect(await repeated()).toEqual(stored);
    const other = node.client.agents.update({ ...asked, greetMs: 2_000 }, { idempotencyKey: "k-2" });
    await expect(other).rejects.toMatchObject({ code: "idempotency.mismatch" });
  } finally {
    await writeFile(join(folder, file), content);
    await expect.poll(async () => (await node.client.agents.executables())[file]).toBe(sha256);
  }
  await rows("update agent set status = 'removed' where name = 'web-01'");
  try {
    expect(await repeated()).toEqual(stored);
  } finally {
    await rows("update agent set status = 'active' where name = 'web-01'");
  }
  expect(await rows("select 1 from audit where action = 'agent-update' and target = $1", [run.id])).toHaveLength(1);
});

test.each([
  ["another executable than this node serves", { sums: { [file]: "0".repeat(64) } }, 404, "download.unknown"],
  ["no sum for the agent's platform", { sums: {} }, 404, "download.unknown"],
  ["an agent that is not there", { agents: ["web-01", "web-09"] }, 404, "agent.unknown"],
  ["a server that is no URL", { servers: ["$(id)"] }, 400, "request.invalid"],
])("asked for %s, nothing is stored", async (_what, change, status, code) => {
  const before = await rows("select count(*)::int as n from task");
  const answer = await call("POST", "/api/v1/agent-updates", { ...request, ...change });
  expect([answer.status, answer.body["code"]]).toEqual([status, code]);
  expect(await rows("select count(*)::int as n from task")).toEqual(before);
});

test("who may run tasks may not update agents, neither by this route nor as a task", async () => {
  const id = newId(createIdSource({ clock: systemClock, random: new SystemRandom() }), apiKeyIdSchema);
  const secret = randomBytes(32).toString("base64url");
  const digest = createHash("sha256").update(secret).digest();
  const scopes = ["tasks:run", "tasks:read", "agents:read"];
  await rows("insert into api_key (id, name, secret_sha256, scopes) values ($1, 'runner', $2, $3)", [
    id,
    digest,
    JSON.stringify(scopes),
  ]);
  const runner = apiCaller(node.url, formatApiKey({ id, secret }));
  const refused = await runner("POST", "/api/v1/agent-updates", request);
  expect([refused.status, refused.body["code"]]).toEqual([403, "auth.forbidden"]);
  const spec = { kind: "update", sha256, servers: request.servers };
  const submitted = await runner("POST", "/api/v1/submissions", { on: "web-01", spec });
  expect([submitted.status, submitted.body["code"]]).toEqual([400, "request.invalid"]);
});
