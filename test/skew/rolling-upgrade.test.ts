// A cluster is upgraded node after node: today's node migrates the database while the earlier one serves on, with agents of both
// versions at both; then either dies, and the other carries on. An earlier node does not start again on the newer schema.
import { expect, it } from "vitest";
import { runProgram } from "../../demo/processes.ts";
import type { Holdfast } from "../../sdk/holdfast.ts";
import { ownVersion } from "../../shared/version.ts";
import { eventually } from "../harness/eventually.ts";
import { checkOut } from "./checkout.ts";
import { Pairing, wholeOf, type AddedNode, type Counted } from "./pairing.ts";
import { previousVersions } from "./previous.ts";

const agents = ["web-01", "web-02"] as const;

it.concurrent.each(previousVersions)(
  "a cluster $title is upgraded node after node under its scripts",
  async (previous) => {
    await using earlier = await checkOut(previous);
    await using pairing = await Pairing.start({ node: earlier, agent: earlier });
    const { cluster, client: old } = pairing;
    // Its statements are prepared before the schema changes under them.
    await expectWhole(pairing, await pairing.counting(), old);
    const through = await pairing.counting();

    const added = await pairing.addNode("node-b", undefined);
    await cluster.startAgent({ name: "web-02" });
    for (const agent of agents) await connected(added.client, { agent, nodes: ["node-a", "node-b"] });
    for (const client of [old, added.client])
      for (const agent of agents) await expectWhole(pairing, await pairing.counting({ through: client, agent }), old);

    const carried = await Promise.all(agents.map((agent) => pairing.counting({ through: added.client, agent })));
    await killed(added);
    for (const counted of carried) await expectWhole(pairing, counted, old);

    const again = await pairing.addNode("node-b", undefined);
    for (const agent of agents) await connected(again.client, { agent, nodes: ["node-a", "node-b"] });
    const left = await Promise.all(agents.map((agent) => pairing.counting({ through: old, agent })));
    // Killed when it does not end.
    const ended = await cluster.server.program.stop();
    expect(previous.stop === "may-hang" ? [0, null] : [0]).toContain(ended);
    for (const counted of [...left, through]) await expectWhole(pairing, counted, again.client);

    const place = ["--name=node-a", "--data-dir", `${cluster.folder}/node-a`, "--database-url", pairing.database.url];
    const listen = ["--api-listen=127.0.0.1:0", "--agent-listen=127.0.0.1:0"];
    const args = ["server", "start", ...place, ...listen];
    const refused = await runProgram({ title: "the earlier node", args, root: earlier.root });
    expect(refused.exitCode).not.toBe(0);
    expect(refused.output).toContain("database.schema");
    expect(refused.output).toContain(`this server knows versions up to ${previous.schema}`);

    const upgraded = await pairing.addNode("node-a", undefined);
    for (const agent of agents) await connected(upgraded.client, { agent, nodes: ["node-a", "node-b"] });
    const { items } = await upgraded.client.nodes.list();
    expect(items.map(({ version }) => version)).toEqual([ownVersion(), ownVersion()]);
    for (const agent of agents)
      await expectWhole(pairing, await pairing.counting({ through: upgraded.client, agent }), again.client);
  },
);

async function expectWhole(pairing: Pairing, counted: Counted, through: Holdfast): Promise<void> {
  await pairing.finish(counted);
  expect(await pairing.seenOf(counted, through)).toEqual(wholeOf(counted));
}

async function connected(client: Holdfast, wanted: { agent: string; nodes: readonly string[] }): Promise<void> {
  await eventually(`${wanted.agent} is connected to ${wanted.nodes.join(" and ")}`, async () => {
    const { nodes } = await client.agents.show(wanted.agent);
    const names = nodes.filter(({ state }) => state === "connected").map(({ name }) => name);
    return { done: wanted.nodes.every((name) => names.includes(name)), state: nodes };
  });
}

async function killed({ server: { program } }: AddedNode): Promise<void> {
  program.kill("SIGKILL");
  await program.exited;
}
