// Every node killed -9 at once while scripts run (fault 11): the scripts do not notice, one of them ends while no node
// lives, and what happened meanwhile arrives when the nodes are back. The truth is what the scripts wrote themselves.
import { expect, it } from "vitest";
import { eventually } from "../harness/eventually.ts";
import { ProcessNodes, type Counted } from "../harness/process-nodes.ts";
import { hasEnded, startsIn } from "../harness/script-truth.ts";

const names = ["node-a", "node-b", "node-c"] as const;

/** Its log has begun to arrive: what comes later must join on to that. */
async function flowing(cluster: ProcessNodes, { id, truth }: Counted): Promise<void> {
  await eventually(`the log of ${id} flows`, async () => {
    const view = await cluster.anyClient().tasks.show(id);
    return { done: startsIn(truth) === 1 && (view.attempts[0]?.outBytes ?? 0) > 0, state: view };
  });
}

it("scripts go on while no node lives, and their end, result and log arrive when the nodes are back", async () => {
  await using cluster = await ProcessNodes.start(names, ["web-01", "web-02"]);
  const [first, second] = [cluster.named("node-a"), cluster.named("node-b")];
  // The one ends while nobody lives, the other after they are back, whatever this machine is busy with.
  const ending = await cluster.counting(first, "web-01", { count: 60, pauseSeconds: 0.1 });
  const outlasting = await cluster.counting(second, "web-02", { count: 300, pauseSeconds: 0.1 });
  await Promise.all([flowing(cluster, ending), flowing(cluster, outlasting)]);
  for (const { server } of cluster.nodes) server.program.kill("SIGKILL");
  await Promise.all(cluster.nodes.map(({ server }) => server.program.exited));
  expect(hasEnded(ending.truth)).toBe(false);

  await eventually("the script ends while no node lives", () => ({ done: hasEnded(ending.truth), state: ending }));
  expect(cluster.nodes.filter(({ server }) => server.program.isRunning)).toEqual([]);
  expect(cluster.cluster.agents.filter(({ program }) => !program.isRunning)).toEqual([]);

  const backMs = performance.now();
  await Promise.all(cluster.nodes.map((node) => cluster.again(node)));
  const servingMs = performance.now();
  expect(hasEnded(outlasting.truth)).toBe(false);
  await cluster.expectWhole(ending, cluster.named("node-c"));
  const deliveredMs = performance.now();
  process.stdout.write(
    `all nodes killed: they served again after ${seconds(servingMs - backMs)} s, the result was there ${seconds(deliveredMs - servingMs)} s later\n`,
  );
  await cluster.expectWhole(outlasting, first);
  await cluster.connected();
});

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(1);
}
