// Many agents that come at once: their presence costs the database transactions by the time it takes, not by their number.
import { expect, it } from "vitest";
import { join } from "node:path";
import { Fleet } from "../../bench/fleet.ts";
import { enrolFleet } from "../../bench/fleet-plan.ts";
import { eventually } from "../harness/eventually.ts";
import { startTestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";

const agents = 200;
/** Fewer than a node judges at once: none is told to come again later. */
const atOnce = 50;

it("200 agents that connect at once take far fewer presence transactions than one each", async () => {
  const node = await startTestNode();
  const { databaseUrl, folder } = node;
  const plan = await enrolFleet({ databaseUrl, masterKeyFile: join(folder, "master.key"), agents });
  const fleet = new Fleet(plan, { agents, address: `127.0.0.1:${node.node.agentPort}`, peer: "node" });
  try {
    const beganMs = performance.now();
    await fleet.start(atOnce);
    expect(fleet.state).toMatchObject({ connected: agents, heldBack: 0, errors: {} });
    // The versions of the rows that stand now, by the transactions that wrote them: no counter of ours has a part in it.
    const look =
      "select count(*)::int as measured, count(distinct xmin::text)::int as writers from presence where round_trip_us is not null";
    const rows = await eventually("every agent's presence is stored", async () => {
      const [row] = await queryRows(databaseUrl, look);
      return { done: row?.["measured"] === agents, state: row };
    });
    const tookMs = performance.now() - beganMs;
    const headers = { authorization: `Bearer ${node.apiKey}` };
    const metrics = await (await fetch(`${node.url}/metrics`, { headers })).text();
    const statements = Number(/^holdfast_database_seconds_count\{verb="write-presence"\} (\d+)$/m.exec(metrics)?.[1]);
    // Twice in 100 ms at most: an agent's coming and its round trip do not share a statement.
    const most = 4 + (2 * tookMs) / 100;
    expect(statements).toBeGreaterThan(0);
    expect(statements, `in ${Math.round(tookMs)} ms`).toBeLessThanOrEqual(most);
    expect(rows?.["writers"]).toBeLessThanOrEqual(Math.min(most, agents / 2));
  } finally {
    fleet.stop();
    await node.stop();
  }
});
