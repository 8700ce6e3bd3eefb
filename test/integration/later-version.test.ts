// What a later version asked for or stored, at a node of this one: a field it does not know is refused, never left out, and a
// kind of task that it does not know is shown with the others. That an earlier version works is for test/skew/.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Agent } from "../../agent/agent.ts";
import { connected, enrol, startAgentOn } from "../harness/enrolled-agent.ts";
import { apiCaller } from "../harness/http.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";
import { startsIn } from "../harness/script-truth.ts";

let node: TestNode;
let agent: Agent;

beforeAll(async () => {
  node = await startTestNode();
  agent = await startAgentOn(await enrol(node, { name: "web-01" }));
  await connected(node, "web-01");
});
afterAll(async () => {
  await agent.stop();
  await node.stop();
});

const script = { kind: "script", script: "true" };

describe("a submission of a later client", () => {
  it.each([
    ["a spec", { ...script, sandbox: "strict" }, "sandbox"],
    ["an isolation lock", { ...script, isolation: { mode: "full", scope: "cluster" } }, "scope"],
    ["an attached file", { ...script, files: [{ name: "a", base64: "", owner: "web" }] }, "owner"],
    ["a no-op", { kind: "no-op", user: "web" }, "user"],
  ])("with a field of %s that this version does not know is refused and stores nothing", async (_of, spec, field) => {
    const call = apiCaller(node.url, node.apiKey);
    for (const body of [{ on: "web-01", spec }, { tasks: [{ on: "web-01", spec }] }]) {
      expect(await call("POST", "/api/v1/submissions", body)).toMatchObject({
        status: 400,
        body: { code: "request.invalid", message: expect.stringContaining(`"${field}"`) },
      });
    }
    expect(await queryRows(node.databaseUrl, "select id from task where spec like $1", [`%"${field}"%`])).toEqual([]);
  });
});

describe("a task that a node of a later version stored", () => {
  /** Waits in the queue as this spec while its agent is paused; resolves with the task's end. */
  async function stored(change: (spec: Record<string, unknown>) => object) {
    await node.client.agents.pause("web-01");
    const truth = join(node.folder, "started");
    const run = await node.client.run({ on: "web-01", script: `echo "start " >> '${truth}'` });
    const id = run.tasks[0]?.id ?? "";
    const [row] = await queryRows(node.databaseUrl, "select spec from task where id = $1", [id]);
    const spec = change(JSON.parse(String(row?.["spec"])) as Record<string, unknown>);
    await queryRows(node.databaseUrl, "update task set spec = $2 where id = $1", [id, JSON.stringify(spec)]);
    await node.client.agents.resume("web-01");
    const [task] = await run.results();
    if (task === undefined) throw new Error("no task");
    return { task, starts: startsIn(truth) };
  }

  it("with a field that this one does not know is refused, says which, and does not start", async () => {
    const { task, starts } = await stored((spec) => ({ ...spec, sandbox: { level: 3 } }));
    const reason = expect.stringMatching(/^unsupported: .* sandbox of the task: upgrade every node/);
    expect([task, starts]).toMatchObject([{ state: "refused", reason, spec: { kind: "script" } }, 0]);
  });

  it("of a kind that this one does not know is refused, shown with the others, and not retried", async () => {
    const { task, starts } = await stored(() => ({ kind: "tunnel", port: 22 }));
    const reason = expect.stringMatching(/^invalid: this version does not understand the spec/);
    expect([task, starts]).toMatchObject([{ state: "refused", reason, spec: { kind: "tunnel" } }, 0]);
    const { items } = await node.client.tasks.list();
    expect(items.find(({ id }) => id === task.id)?.spec).toMatchObject({
      kind: "tunnel",
      title: "tunnel, as a later version than this node's has it",
    });
    // A kind of its own may need more than the right to run scripts, as an update of an agent does.
    await expect(node.client.tasks.retry(task.id)).rejects.toMatchObject({
      code: "request.invalid",
      message: expect.stringContaining("tunnel"),
    });
  });
});
