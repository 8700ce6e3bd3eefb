// What a person can give up: an agent for good, and a task without waiting for its agent. Two nodes on one database, of
// which the agent reaches only the first, so that what the second is asked must get there by hint or by looking.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Agent } from "../../agent/agent.ts";
import { registerAgent } from "../../agent/register.ts";
import { Holdfast } from "../../sdk/holdfast.ts";
import { startNode, type HoldfastNode } from "../../server/node.ts";
import { systemClock } from "../../shared/clock.ts";
import type { AppError } from "../../shared/errors.ts";
import { silentLogger } from "../../shared/logger.ts";
import { enrol, startAgentOn } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";

let near: TestNode;
let far: HoldfastNode;
/** Speaks with the node that has no session with any agent. */
let afar: Holdfast;
const agents: Agent[] = [];

beforeAll(async () => {
  near = await startTestNode();
  await mkdir(join(near.folder, "far"));
  const loopback = { host: "127.0.0.1", port: 0 };
  far = await startNode(
    { logger: silentLogger },
    {
      dataDirectory: join(near.folder, "far"),
      databaseUrl: near.databaseUrl,
      masterKeyFile: join(near.folder, "master.key"),
      name: "node-b",
      version: "0.0.0-test",
      apiListen: loopback,
      agentListen: loopback,
      // Nobody listens there.
      advertise: ["127.0.0.1:1"],
    },
  );
  afar = new Holdfast({ url: `http://127.0.0.1:${far.apiAddress.port}`, apiKey: near.apiKey, retryForMs: 2_000 });
});
afterAll(async () => {
  for (const agent of agents) await agent.stop();
  await far.stop();
  await near.stop();
});

interface Running {
  readonly dataPath: string;
  readonly agent: Agent;
  readonly fatal: Promise<AppError>;
}

async function start(dataPath: string): Promise<Running> {
  const fatal = Promise.withResolvers<AppError>();
  const ready = Promise.withResolvers<void>();
  const agent = await startAgentOn(dataPath, { onFatal: fatal.resolve, onReady: ready.resolve });
  agents.push(agent);
  await ready.promise;
  return { dataPath, agent, fatal: fatal.promise };
}

/** A task whose script runs until its flag is there, and says so; resolves once it runs. */
async function running(name: string): Promise<{ readonly id: string; end(): Promise<void> }> {
  const flag = join(near.folder, `end-${name}-${systemClock.monotonicMs()}`);
  const script = `echo up; until [ -e '${flag}' ] || [ ! -d '${near.folder}' ]; do sleep 0.05; done`;
  const handle = await near.client.run({ on: name, script, graceMs: 500 });
  const id = handle.tasks[0]?.id ?? "";
  await reaches(id, "running");
  return { id, end: () => writeFile(flag, "") };
}

const reaches = (id: string, state: string) =>
  eventually(`task ${id} is ${state}`, async () => {
    const task = await near.client.tasks.show(id);
    return { done: task.state === state, state: task };
  });
const lateResultOf = (id: string) =>
  eventually(`task ${id} has a late result`, async () => {
    const task = await near.client.tasks.show(id);
    return { done: (task.attempts[0]?.lateResults.length ?? 0) > 0, state: task };
  });

describe("removing an agent", () => {
  it("through any node ends its session within 2 s and what it ran is lost; its name is free for a new one", async () => {
    const { dataPath, agent, fatal } = await start(await enrol(near, { name: "web-01" }));
    const task = await running("web-01");
    try {
      const { id } = await near.client.agents.show("web-01");
      const beganMs = systemClock.monotonicMs();
      expect(await afar.agents.remove("web-01")).toMatchObject({ id, status: "removed" });
      expect(await fatal).toMatchObject({ message: expect.stringContaining("removed by") });
      expect(systemClock.monotonicMs() - beganMs).toBeLessThan(2_000);
      expect(await near.client.tasks.show(task.id)).toMatchObject({ state: "lost", reason: "agent-removed" });
      expect((await near.client.agents.list()).items.map(({ name }) => name)).not.toContain("web-01");
      await expect(afar.agents.remove("web-01")).rejects.toMatchObject({
        code: "agent.unknown",
        message: `agent web-01 (${id}) was removed already`,
      });
      await expect(near.client.run({ on: "web-01", script: "true" })).rejects.toMatchObject({ code: "agent.unknown" });

      await agent.stop();
      const again = await startAgentOn(dataPath);
      agents.push(again);
      await eventually("its certificate is refused", () => {
        const [seen] = again.status().nodes;
        return { done: seen?.lastEnd?.includes("agent removed") ?? false, state: seen };
      });
      await again.stop();

      const { token } = await near.client.tokens.create({});
      const made = await registerAgent({
        server: near.url,
        token,
        name: "web-01",
        dataPath: join(near.folder, "agents", "web-01-anew"),
      });
      expect(made.agentId).not.toBe(id);
      expect(await near.client.agents.show("web-01")).toMatchObject({ id: made.agentId, status: "active" });
      expect(await near.client.agents.show(id)).toMatchObject({ status: "removed" });
    } finally {
      await task.end();
    }
  });

  it("ends its session within 10 s when no hint arrives", async () => {
    const { fatal } = await start(await enrol(near, { name: "unheard" }));
    const beganMs = systemClock.monotonicMs();
    // As the removal leaves the row, without a node that would tell the others.
    await queryRows(
      near.databaseUrl,
      "update agent set status = 'removed', status_reason = 'removed by hand' where name = 'unheard'",
    );
    expect(await fatal).toMatchObject({ message: expect.stringContaining("removed by hand") });
    expect(systemClock.monotonicMs() - beganMs).toBeLessThan(10_000);
  });
});

describe("abandoning a task", () => {
  it("is final at once; the agent is asked to cancel, and its result is shown and changes nothing", async () => {
    await start(await enrol(near, { name: "web-02" }));
    const task = await running("web-02");
    expect(await near.client.tasks.abandon(task.id)).toMatchObject({ state: "abandoned", reason: "may-still-run" });
    expect((await lateResultOf(task.id)).attempts).toMatchObject([
      { state: "abandoned", exitCode: null, lateResults: [{ outcome: "cancelled" }] },
    ]);
    expect(await near.client.tasks.abandon(task.id)).toMatchObject({ state: "abandoned" });
    await expect(near.client.tasks.cancel(task.id)).rejects.toMatchObject({ code: "task.finished" });
  });

  it("reaches its agent at once, though the node that was asked has no session with it", async () => {
    await start(await enrol(near, { name: "web-05" }));
    const task = await running("web-05");
    expect(await afar.tasks.abandon(task.id)).toMatchObject({ state: "abandoned" });
    expect((await lateResultOf(task.id)).attempts).toMatchObject([{ lateResults: [{ outcome: "cancelled" }] }]);
  });

  it("of an agent that is away reaches it with its next greeting", async () => {
    const { dataPath, agent } = await start(await enrol(near, { name: "web-03" }));
    const task = await running("web-03");
    await agent.stop();
    expect(await afar.tasks.abandon(task.id)).toMatchObject({ state: "abandoned", cancelRequested: true });
    expect((await near.client.tasks.show(task.id)).attempts).toMatchObject([{ lateResults: [] }]);
    await start(dataPath);
    expect(await lateResultOf(task.id)).toMatchObject({
      state: "abandoned",
      attempts: [{ lateResults: [{ outcome: "cancelled" }] }],
    });
  });

  it("that succeeded is 409, of a queued task is a cancel", async () => {
    await enrol(near, { name: "idle" });
    const { id = "" } = (await near.client.run({ on: "idle", script: "true" })).tasks[0] ?? {};
    expect(await near.client.tasks.abandon(id)).toMatchObject({ state: "cancelled", reason: "before-offer" });
    expect(await near.client.tasks.abandon(id)).toMatchObject({ state: "cancelled" });
    await start(await enrol(near, { name: "web-04" }));
    const done = await near.client.run({ on: "web-04", script: "true" });
    await done.result();
    await expect(near.client.tasks.abandon(done.tasks[0]?.id ?? "")).rejects.toMatchObject({ code: "task.finished" });
  });
});
