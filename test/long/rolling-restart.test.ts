// All nodes replaced one after the other under load: none fails, none is repeated, no log has a gap. Each node is ended by
// TERM, as a service manager does. HOLDFAST_ROLLING="20 10" is 20 agents and 10 scripts a second; by default what two cores
// carry beside the nodes.
import { expect, it } from "vitest";
import { patience } from "../../demo/patience.ts";
import { eventually } from "../harness/eventually.ts";
import { favour } from "../harness/favour.ts";
import { ProcessNodes, type Counted } from "../harness/process-nodes.ts";

const [agentCount = 6, perSecond = 3] = (process.env["HOLDFAST_ROLLING"] ?? "6 2").split(" ").map(Number);
const agents = Array.from({ length: agentCount }, (_, number) => `agent-${number}`);
/** Twenty seconds each, so that every restart meets many that run. */
const plan = { count: 20, pauseSeconds: 1 };

it("a rolling restart under load fails, repeats and cuts nothing", { timeout: 600_000 * patience }, async () => {
  // With just as many slots as scripts run at this rate, every delay would last. With many more, a machine that falls behind
  // starts more and more at once.
  const slots = Math.ceil((1.25 * perSecond * plan.count * plan.pauseSeconds) / agentCount);
  const agentPlan = { environment: { HOLDFAST_SLOTS: String(slots) } };
  const names = ["node-a", "node-b", "node-c"] as const;
  await using cluster = await ProcessNodes.start([...names], agents, { agentPlan, onNode: ({ pid }) => favour(pid) });
  const submitted: Counted[] = [];
  let mode: "load" | "done" = "load";
  /** Out of the load balancer, as readiness says. */
  const stopping = new Set<number>();
  const startMs = performance.now();
  const submissions: Promise<void>[] = [];
  /** By the clock, not one behind the other: what a slow answer delays is submitted all the same. */
  const load = (async () => {
    for (let number = 0; mode === "load"; number += 1) {
      const running = cluster.nodes.filter(
        ({ server }) => server.program.isRunning && !stopping.has(server.program.pid),
      );
      const through = running[number % running.length];
      const agent = agents[number % agents.length] ?? "";
      if (through !== undefined)
        submissions.push(cluster.counting(through, agent, plan).then((one) => void submitted.push(one)));
      const nextMs = startMs + ((number + 1) * 1_000) / perSecond;
      await new Promise((resolve) => void setTimeout(resolve, Math.max(0, nextMs - performance.now())));
    }
    await Promise.all(submissions);
  })();
  for (const node of cluster.nodes) {
    await eventually("there is load", () => ({ done: submitted.length > 20, state: submitted.length }));
    stopping.add(node.server.program.pid);
    const { program } = node.server;
    const code = await program.stop();
    if (code !== 0 || program.output.includes("still kept the process"))
      throw new Error(`${node.name} ended with ${code}:\n${program.output.slice(-4_000)}`);
    await cluster.again(node);
    await cluster.connected();
  }
  mode = "done";
  await load;
  const rate = submitted.length / ((performance.now() - startMs) / 1_000);
  const reader = cluster.named("node-b");
  for (const one of submitted) await cluster.expectWhole(one, reader);
  process.stdout.write(`${submitted.length} scripts, ${rate.toFixed(1)} a second, over three restarts\n`);
  expect(submitted.length).toBeGreaterThan(40);
});
