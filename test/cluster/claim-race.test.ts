// 1,000 queued no-op tasks, four nodes that claim them at the same moment: each exactly once, in order within a claim,
// and the database sees no deadlock.
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually } from "../harness/eventually.ts";
import { NodeGroup } from "../harness/node-group.ts";
import { queryRows } from "../harness/query.ts";

const tasks = 1_000;
const agents = ["web-01", "web-02", "web-03", "web-04"];
let group: NodeGroup;

beforeAll(async () => {
  group = await NodeGroup.start(["node-b", "node-c", "node-d"]);
  for (const name of agents) await group.startAgent(name);
}, 120_000);
afterAll(() => group[Symbol.asyncDispose]());

const deadlocks = async () =>
  Number(
    (
      await queryRows(
        group.first.databaseUrl,
        "select deadlocks from pg_stat_database where datname = current_database()",
      )
    )[0]?.["deadlocks"],
  );

it("each is offered and run exactly once, first come first served per agent, without a deadlock", async () => {
  await group.client.cluster.pause();
  const before = await deadlocks();
  await Promise.all(
    Array.from({ length: tasks / 100 }, (_, batch) =>
      (group.nodes[batch % 4]?.client ?? group.client).submit({
        tasks: Array.from({ length: 100 }, (_item, index) => ({
          on: agents[index % agents.length] ?? "",
          spec: { kind: "no-op" as const },
        })),
      }),
    ),
  );
  await group.client.cluster.resume();
  await eventually("all have succeeded", async () => {
    const [row] = await queryRows(
      group.first.databaseUrl,
      "select count(*) filter (where state = 'succeeded')::int as done, count(*)::int as all from attempt",
    );
    return { done: row?.["done"] === tasks && row["all"] === tasks, state: row };
  });
  const [once] = await queryRows(
    group.first.databaseUrl,
    `select count(*)::int as attempts, max(offer_no)::int as offers, count(distinct task_id)::int as tasks,
      count(distinct home_node)::int as nodes from attempt`,
  );
  expect(once).toEqual({ attempts: tasks, offers: 1, tasks, nodes: expect.any(Number) });
  expect(Number(once?.["nodes"])).toBeGreaterThan(1);
  expect(await deadlocks()).toBe(before);
  // Accepted no earlier than an older one of the same agent, but for what four nodes offer at the same moment.
  const [order] = await queryRows(
    group.first.databaseUrl,
    `select max(abs(place - accepted))::int as moved from (
      select rank() over (partition by agent_id order by queue_no) as place,
        rank() over (partition by agent_id order by accepted_at) as accepted from attempt) o`,
  );
  expect(Number(order?.["moved"])).toBeLessThan(4 * 10 * 2);
});
