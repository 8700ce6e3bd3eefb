// All nodes replaced one after the other under load (issue's scale by default: 20 agents, 10 tasks a second of 20 s
// scripts would fill agents' slots, so the scripts are shorter here and the rate the same): none fails, none is repeated,
// no log has a gap. Each node is ended by TERM, as a service manager does.
import { expect, it } from "vitest";
import { eventually } from "../harness/eventually.ts";
import { ProcessNodes, type Counted } from "../harness/process-nodes.ts";

const agents = Array.from({ length: 20 }, (_, number) => `agent-${number}`);
const perSecond = 10;
const plan = { count: 40, pauseSeconds: 0.1 };

it("a rolling restart under load fails, repeats and cuts nothing", { timeout: 600_000 }, async () => {
  await using cluster = await ProcessNodes.start(["node-a", "node-b", "node-c"], agents);
  const submitted: Counted[] = [];
  let mode: "load" | "done" = "load";
  const load = (async () => {
    for (let number = 0; mode === "load"; number += 1) {
      const running = cluster.nodes.filter(
        ({ server }) => server.program.isRunning && !stopping.has(server.program.pid),
      );
      const through = running[number % running.length];
      if (through !== undefined)
        submitted.push(await cluster.counting(through, agents[number % agents.length] ?? "", plan));
      await new Promise((resolve) => void setTimeout(resolve, 1_000 / perSecond));
    }
  })();
  const stopping = new Set<number>();
  for (const node of cluster.nodes) {
    await eventually("there is load", () => ({ done: submitted.length > 20, state: submitted.length }));
    // Out of the load balancer first, as readiness says.
    stopping.add(node.server.program.pid);
    expect(await node.server.program.stop()).toBe(0);
    await cluster.again(node);
    await cluster.connected();
  }
  mode = "done";
  await load;
  const reader = cluster.named("node-b");
  for (const one of submitted) await cluster.expectWhole(one, reader);
  process.stdout.write(`${submitted.length} scripts over three restarts\n`);
  expect(submitted.length).toBeGreaterThan(60);
});
