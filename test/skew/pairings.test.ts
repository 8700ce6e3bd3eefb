// An agent of an earlier version at today's node, and today's at an earlier node, for real: enrolment, scripts with their
// log, cancel and time limit, and the deaths of agent and node while a script runs.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ownVersion } from "../../shared/version.ts";
import { eventually } from "../harness/eventually.ts";
import { pidsWith } from "../harness/process.ts";
import { checkOut, type Checkout } from "./checkout.ts";
import { Pairing, wholeOf } from "./pairing.ts";
import { previousVersions } from "./previous.ts";

const directions = ["earlier agent, today's node", "today's agent, earlier node"] as const;

describe.each(previousVersions)("$title", (previous) => {
  let earlier: Checkout;
  beforeAll(async () => {
    earlier = await checkOut(previous);
  });
  afterAll(async () => {
    await earlier?.[Symbol.asyncDispose]();
  });

  describe.each(directions)("%s", (direction) => {
    let pairing: Pairing;
    const isAgentEarlier = direction === directions[0];
    beforeAll(async () => {
      pairing = await Pairing.start(
        isAgentEarlier ? { node: undefined, agent: earlier } : { node: earlier, agent: undefined },
      );
    });
    afterAll(async () => {
      await pairing?.[Symbol.asyncDispose]();
    });

    it("each says its own version, and they have a session", async () => {
      const agent = await pairing.client.agents.show("web-01");
      const { items } = await pairing.client.nodes.list();
      expect([agent.connection, agent.version, items.map(({ version }) => version)]).toEqual(
        isAgentEarlier
          ? ["fully", earlier.version, [ownVersion()]]
          : ["fully", ownVersion(), [earlier.version]],
      );
    });

    it("scripts are whole, a cancel and a time limit end the tree", async () => {
      const counted = await pairing.counting(300, 0.002);
      const tree = (seconds: string): string => `sleep ${seconds} & sleep ${seconds}; wait`;
      const cancelled = await pairing.client.run({ on: "web-01", script: tree("4211.5"), graceMs: 500 });
      const limited = await pairing.client.run({ on: "web-01", script: tree("4212.5"), timeoutMs: 700, graceMs: 500 });
      await eventually("what is to be cancelled runs", () => {
        const pids = pidsWith("sleep 4211.5");
        return { done: pids.length >= 2, state: pids };
      });
      await cancelled.cancel();
      expect(await cancelled.result()).toMatchObject({ state: "cancelled" });
      expect(await limited.result()).toMatchObject({ state: "timed-out" });
      expect([...pidsWith("sleep 4211.5"), ...pidsWith("sleep 4212.5")]).toEqual([]);
      expect(await pairing.seenOf(counted)).toEqual(wholeOf(counted));
    });

    it("a script outlives the deaths of its node and of its agent", async () => {
      const counted = await pairing.counting(60, 0.1);
      pairing.cluster.server.program.kill("SIGKILL");
      await pairing.restartNode();
      await pairing.cluster.connected("web-01");
      pairing.agent.program.kill("SIGKILL");
      await pairing.agent.program.exited;
      await pairing.cluster.restartAgent(pairing.agent);
      expect((await pairing.view(counted.id)).state).toBe("running");
      expect(await pairing.seenOf(counted)).toEqual(wholeOf(counted));
    });
  });
});
