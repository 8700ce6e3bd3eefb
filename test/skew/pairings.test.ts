// An agent of an earlier version at today's node, and today's at an earlier node, for real: enrolment, scripts with their
// log, cancel and time limit, the deaths of node and agent while a script runs; and what the operator sees.
import { describe, expect, it } from "vitest";
import type { RunHandle } from "../../sdk/run-handle.ts";
import { ownVersion } from "../../shared/version.ts";
import { eventually } from "../harness/eventually.ts";
import { pidsWith } from "../harness/process.ts";
import { checkOut } from "./checkout.ts";
import { expectRefusals, expectUnderstood } from "./command-line.ts";
import { Pairing, wholeOf } from "./pairing.ts";
import { previousVersions } from "./previous.ts";

const sides = ["agent", "node"] as const;

describe.each(previousVersions)("a version $title", (previous) => {
  // Side by side: they mostly wait.
  it.concurrent.each(sides)("works as %s with today's other side", async (side) => {
    await using earlier = await checkOut(previous);
    await using pairing = await Pairing.start({ node: undefined, agent: undefined, [side]: earlier });
    const versions = { node: ownVersion(), agent: ownVersion(), [side]: earlier.version };
    await expectVersions(pairing, versions);
    // The earlier command line at today's node, and today's at the earlier one.
    await expectUnderstood(pairing, side === "agent" ? earlier : undefined);
    if (side === "agent") {
      await expectRefusals(pairing, previous);
      // Told to an agent that understands it; the session of another would end with it.
      await pairing.client.agents.set("web-01", { slots: 8 });
    }
    await expectEnds(pairing);
    await expectOutlivesDeaths(pairing);
  });
});

async function expectVersions(pairing: Pairing, versions: { readonly node: string; readonly agent: string }) {
  const agent = await pairing.client.agents.show("web-01");
  const { items } = await pairing.client.nodes.list();
  const seen = { node: items.map(({ version }) => version).join(), agent: agent.version };
  expect([agent.connection, seen]).toEqual(["fully", versions]);
}

/** Of itself, by a cancel and by the time limit: with the whole log, and with the whole tree. */
async function expectEnds(pairing: Pairing): Promise<void> {
  const counted = await pairing.counting();
  const script = `for i in 1 2; do (exec -a "tree $HOLDFAST_ATTEMPT_ID" sleep 600) & done; wait`;
  const cancelled = await pairing.client.run({ on: "web-01", script, graceMs: 500 });
  const limited = await pairing.client.run({ on: "web-01", script, timeoutMs: 700, graceMs: 500 });
  const treeOf = async ({ tasks }: RunHandle): Promise<number[]> => {
    const [attempt] = (await pairing.view(tasks[0]?.id ?? "")).attempts;
    return pidsWith(`tree ${attempt?.id}`);
  };
  await eventually("what is to be cancelled runs", async () => {
    const pids = await treeOf(cancelled);
    return { done: pids.length >= 2, state: pids };
  });
  await cancelled.cancel();
  expect(await cancelled.result()).toMatchObject({ state: "cancelled" });
  expect(await limited.result()).toMatchObject({ state: "timed-out" });
  expect([...(await treeOf(cancelled)), ...(await treeOf(limited))]).toEqual([]);
  await pairing.finish(counted);
  expect(await pairing.seenOf(counted)).toEqual(wholeOf(counted));
}

async function expectOutlivesDeaths(pairing: Pairing): Promise<void> {
  const counted = await pairing.counting();
  const { server } = pairing.cluster;
  server.program.kill("SIGKILL");
  await server.program.exited;
  await pairing.restartNode();
  await pairing.cluster.connected("web-01");
  pairing.agent.program.kill("SIGKILL");
  await pairing.agent.program.exited;
  await pairing.cluster.restartAgent(pairing.agent);
  expect((await pairing.view(counted.id)).state).toBe("running");
  await pairing.finish(counted);
  expect(await pairing.seenOf(counted)).toEqual(wholeOf(counted));
}
