// An agent that was away for months: every node has another address meanwhile, and one known address still leads somewhere.
import { readFile, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { storeReach } from "../../agent/reach.ts";
import { AgentBench } from "../fakes/node-cluster.ts";
import type { FakeNode } from "../fakes/node-server.ts";

let bench: AgentBench;
beforeEach(() => {
  bench = new AgentBench();
});
afterEach(() => bench.stop());

const nodeNo = (no: number): FakeNode => {
  const node = bench.nodes[no];
  if (node === undefined) throw new Error(`no node ${no}`);
  return node;
};

/** The list of before, in which the first node lived where the second does now, and the others where nobody does. */
async function movedMeanwhile(): Promise<void> {
  await bench.start(3);
  const elsewhere = ["127.0.0.1:2", "127.0.0.1:3"];
  const nodes = bench.nodes.map((node, no) => ({
    ...node.listed(),
    addresses: [no === 0 ? nodeNo(1).address : (elsewhere[no - 1] ?? "")],
  }));
  await writeFile(bench.path("nodes.json"), JSON.stringify({ version: 1, want: 0, nodes }));
}

const allConnected = () =>
  bench.store.until(
    "every node has a session",
    () => bench.nodes.every(({ session }) => session !== undefined),
    15_000,
  );

describe("seeds", () => {
  test("a last known address where another node lives now leads to all", async () => {
    await movedMeanwhile();
    // The registration's own seed leads nowhere any more.
    await storeIdentitySeeds(["127.0.0.1:4"]);
    const agent = await bench.agent();
    await allConnected();
    expect(agent.status().nodes.map(({ node }) => node)).toEqual(
      expect.arrayContaining(["node-0", "node-1", "node-2"]),
    );
  });

  test("an address of a later registration leads to all", async () => {
    await movedMeanwhile();
    await storeIdentitySeeds(["127.0.0.1:4"]);
    const lost = { version: 1, want: 0, nodes: [{ ...nodeNo(0).listed(), addresses: ["127.0.0.1:2"] }] };
    await writeFile(bench.path("nodes.json"), JSON.stringify(lost));
    await storeReach(bench.folder, { seeds: [nodeNo(2).address] });
    await bench.agent();
    await allConnected();
  });

  test("an agent that keeps to one node finds it where it has moved, and leaves the node that told it", async () => {
    await movedMeanwhile();
    await storeReach(bench.folder, { seeds: [], only: { nodes: [nodeNo(0).id], seeds: [] } });
    await bench.agent();
    await bench.store.until(
      "only the chosen node has a session",
      () => {
        const open = bench.nodes.map(({ session }) => session !== undefined);
        return open.join() === "true,false,false" && nodeNo(1).hellos.length === 1;
      },
      15_000,
    );
    expect(nodeNo(2).hellos).toEqual([]);
  });

  test("a restriction that cannot be read stops the start instead of being lifted", async () => {
    await bench.start();
    await writeFile(bench.path("reach.json"), "{");
    await expect(bench.agent()).rejects.toMatchObject({
      code: "config.invalid",
      message: expect.stringContaining("reach.json"),
      mend: expect.stringContaining("agent register"),
    });
  });
});

async function storeIdentitySeeds(seeds: readonly string[]): Promise<void> {
  const identity: object = JSON.parse(await readFile(bench.path("identity.json"), "utf8"));
  await writeFile(bench.path("identity.json"), JSON.stringify({ ...identity, seeds }));
}
