// kill -9 of the node a script's log flows through, at random moments, 50 times in one running cluster of ten agents
// (faults 3 to 7 and 12): one start, every line once, success, whatever the moment. Seeded; prints its seed.
import { expect, it } from "vitest";
import { eventually } from "../harness/eventually.ts";
import { ProcessNodes, type Counted } from "../harness/process-nodes.ts";
import { seeded } from "../harness/seeded.ts";

const kills = Number(process.env["HOLDFAST_KILLS"] ?? 50);
const seed = Number(process.env["HOLDFAST_SEED"] ?? Date.now() % 1_000_000);
const agents = Array.from({ length: 10 }, (_, number) => `agent-${number}`);
const plan = { count: 25, pauseSeconds: 0.05 };

it(
  `${kills} kills of the home node change nothing for the scripts (seed ${seed})`,
  { timeout: 1_800_000 },
  async () => {
    const unit = seeded(seed);
    await using cluster = await ProcessNodes.start(["node-a", "node-b", "node-c"], agents);
    let homesKilled = 0;
    for (let round = 0; round < kills; round += 1) {
      const through = cluster.nodes[round % cluster.nodes.length] ?? cluster.named("node-a");
      const counted: Counted[] = await Promise.all(agents.map((agent) => cluster.counting(through, agent, plan)));
      const victimTask = counted[Math.floor(unit() * counted.length)];
      const waitMs = unit() * 900;
      const home = await eventually("the task has a home", async () => {
        const view = await cluster.anyClient().tasks.show(victimTask?.id ?? "");
        return { done: view.home !== null || view.finishedAt !== null, state: view.home };
      });
      await pause(waitMs);
      const victim = home === null ? through : cluster.named(home);
      homesKilled += home === null ? 0 : 1;
      victim.server.program.kill("SIGKILL");
      await victim.server.program.exited;
      const alive = cluster.nodes.find(({ name }) => name !== victim.name) ?? victim;
      const back = cluster.again(victim);
      await Promise.all(counted.map((one) => cluster.expectWhole(one, alive)));
      await back;
      await cluster.connected();
    }
    process.stdout.write(`${kills} kills, ${homesKilled} of a home, ${kills * agents.length} scripts, seed ${seed}\n`);
    expect(homesKilled).toBeGreaterThan(kills * 0.8);
  },
);

/** The moment of the kill is what is random here. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms));
}
