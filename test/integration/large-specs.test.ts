// Pages of tasks with scripts near the largest, over the API of a real node: each shows of its script what it always showed,
// also of tasks that an earlier version stored, whose rows have no summary.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { enrol } from "../harness/enrolled-agent.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";

let node: TestNode;
const padding = `\n# ${"x".repeat(500_000)}`;
const tasks: string[] = [];

beforeAll(async () => {
  node = await startTestNode();
  await enrol(node, { name: "idle-01" });
  for (let at = 0; at < 6; at += 1) {
    const script = `#!/bin/sh\necho "${at} é"${padding}`;
    const run = await node.client.run({ on: "idle-01", script, timeoutMs: 60_000, secrets: { TOKEN: "hunter22" } });
    tasks.unshift(run.tasks[0]?.id ?? "");
  }
});
afterAll(() => node.stop());

/** As bytes on the wire. */
async function pages(): Promise<string[]> {
  const paths = [
    "?limit=200",
    "?limit=4&agent=idle-01",
    `?state=queued&cursor=${tasks[3] ?? ""}`,
    `/${tasks[0] ?? ""}`,
  ];
  const headers = { authorization: `Bearer ${node.apiKey}` };
  return await Promise.all(
    paths.map(async (path) => (await fetch(`${node.url}/api/v1/tasks${path}`, { headers })).text()),
  );
}

describe("pages of tasks with large scripts", () => {
  it("are the same, byte for byte, whether a version with or without stored summaries took the tasks", async () => {
    const answers = await pages();
    const spec = (at: number) => ({
      kind: "script",
      title: `echo "${at} é"`,
      interpreter: "bash",
      scriptBytes: Buffer.byteLength(`#!/bin/sh\necho "${at} é"${padding}`),
      timeoutMs: 60_000,
      secrets: ["TOKEN"],
    });
    const item = (id: string, at: number) => expect.objectContaining({ id, spec: spec(5 - at) });
    const all = tasks.map(item);
    expect(answers.map((text): unknown => JSON.parse(text))).toEqual([
      { items: all, next: null },
      { items: all.slice(0, 4), next: tasks[3] },
      { items: all.slice(4), next: null },
      all[0],
    ]);
    const forgotten = await queryRows(
      node.databaseUrl,
      "update task set summary = null where summary is not null returning id",
      [],
    );
    expect(forgotten).toHaveLength(tasks.length);
    expect(await pages()).toEqual(answers);
  });
});
