// Many agents that come at once: their presence costs the database transactions by the time it takes, not by their number.
import { expect, it } from "vitest";
import { join } from "node:path";
import { Fleet } from "../../bench/fleet.ts";
import { enrolFleet } from "../../bench/fleet-plan.ts";
import { eventually } from "../harness/eventually.ts";
import { startTestNode, type TestNode } from "../harness/node.ts";
import { queryRows } from "../harness/query.ts";

const agents = 200;
/** Fewer than a node judges at once: none is told to come again later. */
const atOnce = 50;

async function statementsOf(node: TestNode, verb: string): Promise<number> {
  const headers = { authorization: `Bearer ${node.apiKey}` };
  const metrics = await (await fetch(`${node.url}/metrics`, { headers })).text();
  const line = new RegExp(`^holdfast_database_seconds_count\\{verb="${verb}"\\} (\\d+)$`, "m");
  return Number(line.exec(metrics)?.[1]);
}

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
    const statements = await statementsOf(node, "write-presence");
    // Twice in 100 ms at most: an agent's coming and its round trip do not share a statement.
    const most = 4 + (2 * tookMs) / 100;
    expect(statements).toBeGreaterThan(0);
    expect(statements, `in ${Math.round(tookMs)} ms`).toBeLessThanOrEqual(most);
    expect(rows?.["writers"]).toBeLessThanOrEqual(most);
  } finally {
    fleet.stop();
    await node.stop();
  }
});

it("an agent's certificate is written down as used with its first session, not with each", async () => {
  const node = await startTestNode();
  const { databaseUrl, folder } = node;
  const plan = await enrolFleet({ databaseUrl, masterKeyFile: join(folder, "master.key"), agents: 3 });
  const options = { agents: 3, address: `127.0.0.1:${node.node.agentPort}`, peer: "node" } as const;
  const used = async () =>
    (await queryRows(databaseUrl, "select 1 from agent_certificate where used_at is not null")).length;
  const connect = async (): Promise<void> => {
    const fleet = new Fleet(plan, options);
    await fleet.start(3);
    await eventually("their certificates are marked", async () => ({
      done: (await used()) === 3,
      state: await used(),
    }));
    fleet.stop();
  };
  try {
    await connect();
    await connect();
    // Those who come together share a statement.
    const admissions = await statementsOf(node, "read-admissions");
    expect(admissions).toBeGreaterThanOrEqual(2);
    expect(admissions).toBeLessThanOrEqual(6);
    expect(await statementsOf(node, "certificate-used")).toBe(3);
  } finally {
    await node.stop();
  }
});
