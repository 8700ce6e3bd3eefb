// Whose journal it is: copies of a data directory, probes, and hosts whose journal is gone, on a real node.
import { lstatSync } from "node:fs";
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Agent } from "../../agent/agent.ts";
import { dial, type DialEnd } from "../../agent/dial.ts";
import { loadIdentity } from "../../agent/identity.ts";
import { registerAgent } from "../../agent/register.ts";
import { anyNodeName } from "../../certs/profile.ts";
import type { AppError } from "../../shared/errors.ts";
import { encodeFrame } from "../../shared/wire/frame.ts";
import { ownProtocols } from "../../shared/wire/version.ts";
import { connected, TestSite } from "../harness/enrolled-agent.ts";
import { eventually } from "../harness/eventually.ts";
import type { TestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";

interface Started {
  readonly agent: Agent;
  /** Resolves when the agent cannot go on by itself. */
  readonly fatal: Promise<AppError>;
}

async function startedAt(site: TestSite, dataPath: string): Promise<Started> {
  const { promise: fatal, resolve: onFatal } = Promise.withResolvers<AppError>();
  return { agent: await site.startAgent(dataPath, { onFatal }), fatal };
}

/** A script that runs until `release` is called; it must not outlive its test. */
async function heldScript(
  node: TestNode,
  on: string,
): Promise<{ readonly id: string; readonly release: () => Promise<void> }> {
  const hold = join(node.folder, "hold");
  await writeFile(hold, "");
  const handle = await node.client.run({
    on,
    script: `echo up; while [ -e '${hold}' ]; do sleep 0.05; done; echo down`,
  });
  for await (const piece of handle.bytes()) if ("bytes" in piece) break;
  return { id: handle.tasks[0]?.id ?? "", release: () => rm(hold, { force: true }) };
}

/** Greets with a boot pair of the test's choice and the agent's own certificate; resolves with how that ended. */
async function greet(
  node: TestNode,
  dataPath: string,
  boot: { readonly counter: number; readonly bootId: string; readonly journalId: string },
): Promise<DialEnd> {
  const identity = await loadIdentity(dataPath);
  if (identity === undefined) throw new Error("no identity");
  const { key, certificate, nodesCa, cluster } = identity;
  const target = {
    address: `127.0.0.1:${node.node.agentPort}`,
    identity: { key, cert: certificate, nodesCas: nodesCa, servername: anyNodeName(cluster) },
  };
  return await new Promise((resolve) => {
    const socket = dial(target, {
      onOpen: () =>
        socket.send(
          encodeFrame({
            type: "hello",
            protocols: ownProtocols,
            version: "0",
            bootCounter: boot.counter,
            bootId: boot.bootId,
            journalId: boot.journalId,
            attempts: [],
            capabilities: [],
            host: { hostname: "clone", os: "linux", arch: "x64", slots: 1 },
          }),
          () => undefined,
        ),
      onFrame: () => undefined,
      onPong: () => undefined,
      onEnd: resolve,
    });
  });
}

describe.concurrent("a copy of an agent's data directory", () => {
  it.concurrent("is refused as superseded while the original goes on undisturbed", async () => {
    await using site = await TestSite.start();
    const { node } = site;
    const rows = (text: string) => queryRows(node.databaseUrl, text);
    const dataPath = await site.enrol("web-01");
    await (await startedAt(site, dataPath)).agent.stop();
    const copy = `${dataPath}-copy`;
    // Pipes hold nothing, and Node copies none.
    await cp(dataPath, copy, { recursive: true, filter: (from) => !lstatSync(from).isFIFO() });
    const original = await startedAt(site, dataPath);
    await connected(node, "web-01");
    const script = await heldScript(node, "web-01");
    const before = await rows("select since from presence");

    const clone = await startedAt(site, copy);
    expect(await clone.fatal).toMatchObject({ code: "agent.superseded" });
    expect(clone.agent.status().nodes.map((one) => one.state)).toEqual(["stopped"]);
    expect(original.agent.status().nodes.map((one) => one.state)).toEqual(["open"]);
    expect(await rows("select since from presence")).toEqual(before);
    await script.release();
    expect((await (await node.client.tasks.follow(script.id)).results())[0]).toMatchObject({ state: "succeeded" });
  });

  it.concurrent(
    "that insists after 10 s brings the identity into quarantine: no session, no offers, an audit row",
    async () => {
      await using site = await TestSite.start();
      const { node } = site;
      const rows = (text: string) => queryRows(node.databaseUrl, text);
      const agentRow = async () => (await rows("select * from agent"))[0];
      const dataPath = await site.enrol("web-01");
      const original = await startedAt(site, dataPath);
      await connected(node, "web-01");
      const { boot_counter: counter, journal_id: journalId } = (await agentRow()) ?? {};
      const clone = {
        counter: Number(counter),
        bootId: "0190b7e5-0000-7000-8000-00000000c10e",
        journalId: String(journalId),
      };

      expect(await greet(node, dataPath, clone)).toMatchObject({ kind: "closed", code: 4002 });
      expect(await greet(node, dataPath, clone)).toMatchObject({ kind: "closed", code: 4002 });
      expect(await agentRow()).toMatchObject({ status: "active", boot_counter: counter });
      await rows("update agent set refused_at = refused_at - interval '11 seconds'");
      expect(await greet(node, dataPath, clone)).toMatchObject({
        kind: "closed",
        code: 4003,
        reason: expect.stringContaining("two processes"),
      });

      expect(await agentRow()).toMatchObject({ status: "quarantined" });
      expect(await original.fatal).toMatchObject({ code: "agent.quarantined" });
      expect(await rows("select actor, action from audit where action = 'agent-quarantined'")).toHaveLength(1);
      await expect(node.client.run({ on: "web-01", script: "true" })).rejects.toMatchObject({ code: "agent.unknown" });
      const task = await rows("select count(*)::int as n from task");
      expect(task).toEqual([{ n: 0 }]);
      await original.agent.stop();
      const back = await startedAt(site, dataPath);
      await eventually("the agent in quarantine is refused at the door", () => {
        const [seen] = back.agent.status().nodes;
        return { done: seen?.lastEnd?.includes("agent quarantined") ?? false, state: seen };
      });
    },
  );

  it.concurrent(
    "with an older counter is superseded, and a clone of another boot does not share its refusal",
    async () => {
      await using site = await TestSite.start();
      const { node } = site;
      const rows = (text: string) => queryRows(node.databaseUrl, text);
      const agentRow = async () => (await rows("select * from agent"))[0];
      const dataPath = await site.enrol("web-01");
      await startedAt(site, dataPath);
      await connected(node, "web-01");
      const { journal_id: journalId } = (await agentRow()) ?? {};
      const older = { counter: 0, bootId: "0190b7e5-0000-7000-8000-000000000001", journalId: String(journalId) };
      expect(await greet(node, dataPath, older)).toMatchObject({
        code: 4002,
        reason: expect.stringContaining("boot counter"),
      });
      await rows("update agent set refused_at = refused_at - interval '11 seconds'");
      expect(await greet(node, dataPath, { ...older, bootId: "0190b7e5-0000-7000-8000-000000000002" })).toMatchObject({
        code: 4002,
      });
      expect(await agentRow()).toMatchObject({ status: "active" });
    },
  );
});

describe.concurrent("a probe", () => {
  it.concurrent(
    "of a connected agent changes nothing: not its row, its presence, its session or its running script",
    async () => {
      await using site = await TestSite.start();
      const { node } = site;
      const rows = (text: string) => queryRows(node.databaseUrl, text);
      const agentRow = async () => (await rows("select * from agent"))[0];
      const dataPath = await site.enrol("web-01");
      const { agent } = await startedAt(site, dataPath);
      await connected(node, "web-01");
      const script = await heldScript(node, "web-01");
      const state = async () => ({
        agent: await agentRow(),
        presence: await rows("select * from presence"),
        attempts: await rows("select id, rank, state, home_node from attempt"),
        audit: await rows("select count(*)::int as n from audit"),
      });
      const { token } = await node.client.tokens.create({});
      const before = await state();
      const registered = await registerAgent({ server: node.url, token, name: "web-01", dataPath });
      expect(registered).toMatchObject({ enrolment: "kept", nodes: [{ ok: true }] });
      expect(await state()).toEqual(before);
      expect(agent.status().nodes.map((one) => one.state)).toEqual(["open"]);
      await script.release();
      expect((await (await node.client.tasks.follow(script.id)).results())[0]).toMatchObject({ state: "succeeded" });
    },
  );
});

describe.concurrent("a host whose journal is gone", () => {
  it.concurrent(
    "loses what was running there as journal-missing, takes new work, and the old journal never counts again",
    async () => {
      await using site = await TestSite.start();
      const { node } = site;
      const dataPath = await site.enrol("web-01");
      const first = await startedAt(site, dataPath);
      await connected(node, "web-01");
      const script = await heldScript(node, "web-01");
      try {
        await first.agent.stop();
        const journal = await readFile(join(dataPath, "journal"));
        await rm(join(dataPath, "journal"));
        const second = await startedAt(site, dataPath);
        const lost = await eventually("the attempt is lost", async () => {
          const task = await node.client.tasks.show(script.id);
          return { done: task.state === "lost", state: task };
        });
        expect(lost).toMatchObject({ reason: "journal-missing", exitCode: null, attempts: [{ number: 1 }] });
        await connected(node, "web-01");
        const handle = await node.client.run({ on: "web-01", script: "exit 6" });
        expect((await handle.results())[0]).toMatchObject({ state: "failed", exitCode: 6 });

        await second.agent.stop();
        await writeFile(join(dataPath, "journal"), journal);
        const back = await startedAt(site, dataPath);
        expect(await back.fatal).toMatchObject({
          code: "agent.superseded",
          message: expect.stringContaining("journal"),
        });
        expect(await node.client.tasks.show(script.id)).toMatchObject({ state: "lost" });
      } finally {
        await script.release();
      }
    },
  );
});
