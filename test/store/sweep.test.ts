// Giving up, presence and membership: what the passing of time and the coming and going of nodes decide.
import { beforeEach, describe, expect, it } from "vitest";
import { bootIdSchema, newId } from "../../shared/ids.ts";
import { settlePresence } from "../../server/store/presence.ts";
import { listNodes } from "../../server/store/nodes.ts";
import { beatNode, joinNode, readNodeList } from "../../server/store/membership.ts";
import { sweepAttempts } from "../../server/store/sweep-attempts.ts";
import { first, ids, useLab, type TestAgent, type TestNode } from "./fixture.ts";

const lab = useLab();
const sweep = () => sweepAttempts(lab.database.durable);
const presence = (agent: TestAgent, change: "connected" | "disconnected", node: TestNode = lab.node) =>
  lab.store.presence({ agent: agent.id, node: node.id, nodeBootId: node.bootId, change });
const age = (agent: TestAgent, hours: number) =>
  lab.sql(
    `with aged as (update agent set last_seen_at = last_seen_at - make_interval(hours => $2) where id = $1)
     update attempt set created_at = created_at - make_interval(hours => $2) where agent_id = $1`,
    [agent.id, hours],
  );
const present = (agent: TestAgent) => lab.sql(`select node_id from presence where agent_id = $1`, [agent.id]);

beforeEach(async () => {
  // The node has been up long enough to judge, and lives.
  await lab.sql(
    `update node set started_at = clock_timestamp() - interval '1 hour', heartbeat_at = clock_timestamp() where id = $1`,
    [lab.node.id],
  );
});

describe("the queue time limit", () => {
  it("ends queued attempts past it, and only those", async () => {
    const agent = await lab.agent();
    const offered = await lab.offered(agent, { queueMs: 1_000 });
    const due = await lab.queueOne(agent, { queueMs: 1_000 });
    const fresh = await lab.queueOne(agent);
    await lab.sql(`update attempt set expires_at = expires_at - interval '2 seconds' where task_id = any($1)`, [
      [due.task, offered.task],
    ]);
    expect(await sweep()).toEqual([due.task]);
    expect(await lab.attempt(due.attempt)).toMatchObject({
      rank: 9,
      state: "expired",
      reason: "queue-time-limit",
      closed: true,
    });
    expect(await lab.attempt(fresh.attempt)).toMatchObject({ rank: 0 });
    expect(await lab.attempt(offered.attempt)).toMatchObject({ rank: 1, state: "offered" });
    expect(await sweep()).toEqual([]);
  });

  it("and a claim: whoever locks the row first decides", async () => {
    const agent = await lab.agent();
    for (let round = 0; round < 20; round += 1) {
      const { task, attempt } = await lab.queueOne(agent);
      await lab.sql(`update attempt set expires_at = clock_timestamp() where task_id = $1`, [task]);
      const [expired, claimed] = await Promise.all([sweep(), lab.claim(agent)]);
      expect(expired.length + claimed.length).toBeLessThanOrEqual(1);
      const { state } = await lab.attempt(attempt);
      expect(state).toBe(expired.length === 1 ? "expired" : claimed.length === 1 ? "offered" : "queued");
      await lab.sql(`update attempt set rank = 9, state = 'cancelled' where id = $1 and rank < 9`, [attempt]);
    }
  });
});

describe("the unreachable limit", () => {
  it.each(["offered", "accepted"] as const)(
    "ends an %s attempt of an agent without a session for that long",
    async (state) => {
      const agent = await lab.agent();
      const { task, attempt } = await lab[state](agent);
      expect(await sweep()).toEqual([]);
      await age(agent, 25);
      expect(await sweep()).toEqual([task]);
      expect(await lab.attempt(attempt)).toMatchObject({ rank: 9, state: "lost", reason: "unreachable", closed: true });
    },
  );

  it("spares queued attempts, tasks without the limit and agents with a session on a live node", async () => {
    const agent = await lab.agent();
    await lab.queueOne(agent, { queueMs: 30 * 86_400_000 });
    const other = await lab.agent();
    await lab.accepted(other, { unreachableLimitMs: 0 });
    const connected = await lab.agent();
    await lab.accepted(connected);
    await presence(connected, "connected");
    for (const one of [agent, other, connected]) await age(one, 100);
    expect(await sweep()).toEqual([]);
  });

  it("counts from the end of the last session, not from its beginning", async () => {
    const agent = await lab.agent();
    await lab.accepted(agent);
    await presence(agent, "connected");
    await age(agent, 100);
    await presence(agent, "disconnected");
    expect(await sweep()).toEqual([]);
  });

  it("counts a dead node's last heartbeat as the end of its sessions", async () => {
    const node = await lab.otherNode("node-dies");
    const agent = await lab.agent();
    const { task } = await lab.accepted(agent);
    await presence(agent, "connected", node);
    await age(agent, 100);
    await lab.sql(`update node set heartbeat_at = clock_timestamp() - interval '1 hour' where id = $1`, [node.id]);
    expect(await sweep()).toEqual([]);
    await lab.sql(`update node set heartbeat_at = clock_timestamp() - interval '25 hours' where id = $1`, [node.id]);
    expect(await sweep()).toEqual([task]);
  });

  it("does not judge a long-running attempt when its agent's only node restarts", async () => {
    const node = await lab.otherNode("node-restarts");
    const agent = await lab.agent();
    await lab.accepted(agent);
    await presence(agent, "connected", node);
    await age(agent, 100);
    await lab.join({ ...node, bootId: newId(ids, bootIdSchema) });
    expect(await present(agent)).toEqual([]);
    expect(await sweep()).toEqual([]);
  });

  it("judges nobody until some node has been up for a minute", async () => {
    const agent = await lab.agent();
    const { task } = await lab.accepted(agent);
    await age(agent, 25);
    await lab.sql(`update node set started_at = clock_timestamp() - interval '30 seconds'`);
    expect(await sweep()).toEqual([]);
    await lab.sql(`update node set started_at = clock_timestamp() - interval '61 seconds' where id = $1`, [
      lab.node.id,
    ]);
    expect(await sweep()).toEqual([task]);
  });

  it("ends more than one step's worth in several steps", async () => {
    const agent = await lab.agent();
    await lab.queue(agent, { count: 600, queueMs: 1 });
    await lab.sql(`update attempt set expires_at = clock_timestamp() - interval '1 second' where agent_id = $1`, [
      agent.id,
    ]);
    expect([(await sweep()).length, (await sweep()).length, (await sweep()).length]).toEqual([500, 100, 0]);
  });
});

describe("presence", () => {
  it("is there from connect to disconnect of that boot of the node, and notes when the agent was seen", async () => {
    const agent = await lab.agent();
    await lab.sql(`update agent set last_seen_at = null where id = $1`, [agent.id]);
    await presence(agent, "connected");
    expect(await present(agent)).toEqual([{ node_id: lab.node.id }]);
    const seen = first(await lab.sql(`select last_seen_at from agent where id = $1`, [agent.id]));
    expect(seen["last_seen_at"]).toBeInstanceOf(Date);
    await presence(agent, "disconnected");
    expect(await present(agent)).toEqual([]);
  });

  it("ignores a disconnect that an earlier boot of the node reports late", async () => {
    const agent = await lab.agent();
    await presence(agent, "connected");
    await presence(agent, "disconnected", { ...lab.node, bootId: newId(ids, bootIdSchema) });
    expect(await present(agent)).toHaveLength(1);
  });

  it("keeps the order of an agent's changes even when they wait for the same batch", async () => {
    const agent = await lab.agent();
    await Promise.all(
      (["connected", "disconnected", "connected", "disconnected"] as const).map((change) => presence(agent, change)),
    );
    expect(await present(agent)).toEqual([]);
    await Promise.all((["disconnected", "connected"] as const).map((change) => presence(agent, change)));
    expect(await present(agent)).toHaveLength(1);
  });
});

describe("membership", () => {
  const list = () => readNodeList(lab.database.durable);
  const beat = (node: TestNode) =>
    beatNode(lab.database.durable, {
      id: node.id,
      bootId: node.bootId,
      active: 3,
      sessions: 2,
      draining: false,
      settingsSeen: 0,
    });

  it("lists joined nodes under a version that grows with each join and each new address or name", async () => {
    const before = await list();
    const node = await lab.otherNode("node-listed");
    const joined = await list();
    expect(joined.version).toBeGreaterThan(before.version);
    expect(joined.nodes).toContainEqual({ id: node.id, name: "node-listed", addresses: ["node-listed:10943"] });
    await joinNode(lab.database.durable, { ...node, version: "1.0.0", addresses: ["elsewhere:1"] });
    expect((await list()).version).toBeGreaterThan(joined.version);
  });

  it("goes on when one node's row has a form that no list can hold", async () => {
    const [odd, mute, sound] = await Promise.all(
      ["node-odd", "node-mute", "node-sound"].map((name) => lab.otherNode(name)),
    );
    await lab.sql(`update node set name = 'my node' where id = $1`, [odd?.id]);
    await lab.sql(`update node set addresses = '["no address"]' where id = $1`, [mute?.id]);
    const { nodes } = await list();
    await lab.sql(`delete from node where id = any($1)`, [[odd?.id, mute?.id]]);
    expect(nodes).toContainEqual({ id: odd?.id, name: odd?.id, addresses: ["node-odd:10943"] });
    expect(nodes).toContainEqual({ id: sound?.id, name: "node-sound", addresses: ["node-sound:10943"] });
    expect(nodes.some(({ id }) => id === mute?.id)).toBe(false);
  });

  it("lists no more nodes than agents take, the most lately seen first", async () => {
    const alive = await lab.otherNode("node-alive");
    await lab.sql(`insert into node (id, name, boot_id, version, addresses, heartbeat_at)
      select gen_random_uuid(), 'gone', gen_random_uuid(), '1.0.0', '["gone:1"]', clock_timestamp() - interval '1 hour' from generate_series(1, 300)`);
    const { nodes } = await list();
    await lab.sql(`delete from node where name = 'gone'`);
    expect(nodes).toHaveLength(256);
    expect(nodes.some(({ id }) => id === alive.id)).toBe(true);
  });

  it("carries the database's timeline above the counter", async () => {
    const { version } = await list();
    const counter = first(await lab.sql(`select nodes_version from cluster`));
    expect(version).toBe(Number(counter["nodes_version"]) + 2 ** 32);
  });

  it("keeps its version when a node only restarts", async () => {
    const node = await lab.otherNode("node-same");
    const before = await list();
    await lab.join({ ...node, bootId: newId(ids, bootIdSchema) });
    expect(await list()).toEqual(before);
  });

  it("drops a node after 24 h without a heartbeat, and grows its version when the node comes back", async () => {
    const node = await lab.otherNode("node-day");
    const before = await list();
    await lab.sql(`update node set heartbeat_at = clock_timestamp() - interval '25 hours' where id = $1`, [node.id]);
    expect((await list()).nodes.map(({ id }) => id)).not.toContain(node.id);
    await lab.join({ ...node, bootId: newId(ids, bootIdSchema) });
    const after = await list();
    expect(after.nodes.map(({ id }) => id)).toContain(node.id);
    expect(after.version).toBeGreaterThan(before.version);
  });

  it("keeps listing a node that is merely not live", async () => {
    const node = await lab.otherNode("node-silent");
    await lab.sql(`update node set heartbeat_at = clock_timestamp() - interval '1 hour' where id = $1`, [node.id]);
    expect((await list()).nodes.map(({ id }) => id)).toContain(node.id);
    const shown = await listNodes(lab.database.durable, { limit: 100, before: null });
    expect(shown.find(({ id }) => id === node.id)).toMatchObject({ state: "dead", name: "node-silent" });
  });

  it("takes heartbeats of the boot that joined last only", async () => {
    const older = await lab.otherNode("node-boots");
    const newer = { ...older, bootId: newId(ids, bootIdSchema) };
    expect((await beat(older)).kind).toBe("beaten");
    await lab.join(newer);
    expect([(await beat(older)).kind, (await beat(newer)).kind]).toEqual(["replaced", "beaten"]);
  });

  it("keeps a removed node out: no join, no heartbeat, no place in the list", async () => {
    const node = await lab.otherNode("node-removed");
    await lab.sql(`update node set status = 'removed' where id = $1`, [node.id]);
    expect(await beat(node)).toEqual({ kind: "removed" });
    expect(await lab.join({ ...node, bootId: newId(ids, bootIdSchema) })).toBe(false);
    expect((await list()).nodes.map(({ id }) => id)).not.toContain(node.id);
    const shown = await listNodes(lab.database.durable, { limit: 100, before: null });
    expect(shown.find(({ id }) => id === node.id)).toMatchObject({ state: "removed" });
  });

  it("pages through nodes, newest first", async () => {
    for (const name of ["page-a", "page-b", "page-c"]) await lab.otherNode(name);
    const all = await listNodes(lab.database.durable, { limit: 100, before: null });
    const [top, next] = [await listNodes(lab.database.durable, { limit: 2, before: null }), all[1]];
    expect(top).toHaveLength(2);
    const rest = await listNodes(lab.database.durable, { limit: 100, before: next?.id ?? null });
    expect([...top, ...rest].map(({ id }) => id)).toEqual(all.map(({ id }) => id));
  });
});

describe("settling presence", () => {
  const rows = (agent: TestAgent) =>
    lab.sql(`select node_boot_id, since, round_trip_us from presence where agent_id = $1`, [agent.id]);

  it("says since when of this boot, not of an earlier one of the node", async () => {
    const agent = await lab.agent();
    const { id: node, bootId } = lab.node;
    await presence(agent, "connected");
    const earlier = `update presence set node_boot_id = $2, since = since - interval '1 day', round_trip_us = 7 where agent_id = $1`;
    await lab.sql(earlier, [agent.id, agent.journalId]);
    const [before] = await rows(agent);
    await settlePresence(lab.database.durable, { node, nodeBootId: bootId, agents: [agent.id] });
    const [settled] = await rows(agent);
    expect(settled).toMatchObject({ node_boot_id: bootId, round_trip_us: null });
    expect(Number(settled?.["since"])).toBeGreaterThan(Number(before?.["since"]));
    await settlePresence(lab.database.durable, { node, nodeBootId: bootId, agents: [agent.id] });
    expect(await rows(agent)).toEqual([settled]);
  });
});
