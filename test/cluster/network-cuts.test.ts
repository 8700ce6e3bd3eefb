// Packets between an agent and nodes vanish, nothing is refused (faults 51 to 55): the agent runs in a network of
// its own, the nodes outside. First the line to the home of a running script is cut, then all lines, then all are healed;
// or one direction only of the line to the home. The truth is what the scripts wrote themselves. Needs root, `ip` and `nft`: skipped without them, and in CI it fails.
import { afterEach, describe, expect, it } from "vitest";
import { eventually } from "../harness/eventually.ts";
import { ProcessNodes, type Counted } from "../harness/process-nodes.ts";
import { hasEnded, startsIn } from "../harness/script-truth.ts";
import { SeparateNetwork } from "../harness/separate-network.ts";

const names = ["node-a", "node-b", "node-c"] as const;
/** DESIGN 6 ends a session after 25 s of silence, and promise 4 allows 30 s for a host that vanishes. */
const noticedWithinMs = 30_000;

const whyNot = await SeparateNetwork.whyNot();
const isSkipped = whyNot !== undefined && process.env["CI"] !== "true";
if (isSkipped) process.stderr.write(`\nSKIPPED, no line was cut: ${whyNot} (root? sh scripts/install-test-tools.sh)\n`);

describe.skipIf(isSkipped)("an agent whose lines are cut without a word", () => {
  const networks: SeparateNetwork[] = [];
  const separateNetwork = async (): Promise<SeparateNetwork> => {
    const made = await SeparateNetwork.create();
    networks.push(made);
    return made;
  };
  let cluster: ProcessNodes | undefined;

  afterEach(async () => {
    try {
      await cluster?.[Symbol.asyncDispose]();
    } finally {
      for (const network of networks.splice(0)) await network.remove();
      cluster = undefined;
    }
  });

  it("goes on through another node within 30 s, runs on without any, and delivers all when they are back", async () => {
    const network = await separateNetwork();
    cluster = await ProcessNodes.start(names, ["web-01"], {
      agentHost: network.host,
      agentPlan: { wrapper: network.wrapper },
    });
    const script = await cluster.counting(cluster.named("node-b"), "web-01", { count: 480, pauseSeconds: 0.1 });
    const home = cluster.named(await homeOf(cluster, script));
    const other = names.find((name) => name !== home.name) ?? "node-a";

    // One line: that of the home.
    await network.cut([home.server.agentPort]);
    const cutMs = performance.now();
    const reader = cluster.named(other);
    // Offered over the dead line, then by another node to the same journal.
    const meanwhile = await cluster.counting(home, "web-01", { count: 5, pauseSeconds: 0.1 });
    await cluster.expectWhole(meanwhile, reader);
    const doneMs = performance.now();
    const { offers } = (await reader.client.tasks.show(meanwhile.id)).attempts[0] ?? { offers: 0 };
    const { attempts: stored } = await reader.client.tasks.show(script.id);
    const moved = await eventually(
      "the log flows through another node",
      async () => {
        const view = await reader.client.tasks.show(script.id);
        return { done: view.home !== null && view.home !== home.name, state: view };
      },
      { limitMs: noticedWithinMs + 10_000 },
    );
    const movedMs = performance.now();
    await eventually("the log goes on", async () => {
      const { attempts } = await reader.client.tasks.show(script.id);
      return { done: (attempts[0]?.outBytes ?? 0) > (stored[0]?.outBytes ?? 0), state: attempts };
    });
    process.stdout.write(
      `line to the home cut: noticed after ${seconds(movedMs - cutMs)} s; a task submitted to it was done after ${seconds(doneMs - cutMs)} s and ${offers} offers\n`,
    );
    expect(movedMs - cutMs).toBeLessThan(noticedWithinMs);
    expect(moved).toMatchObject({ state: "running", attempts: [{ number: 1 }] });

    // All lines.
    await network.cut(cluster.nodes.map(({ server }) => server.agentPort));
    const allCutMs = performance.now();
    expect(hasEnded(script.truth)).toBe(false);
    await eventually(
      "every node knows that the agent is away",
      async () => {
        const view = await reader.client.agents.show("web-01");
        return { done: view.connection === "offline", state: view };
      },
      { limitMs: noticedWithinMs + 10_000 },
    );
    const offlineMs = performance.now() - allCutMs;
    await eventually("the script ends by itself", () => ({ done: hasEnded(script.truth), state: script }), {
      limitMs: 60_000,
    });
    // Unreachable is no failure.
    expect(await reader.client.tasks.show(script.id)).toMatchObject({ state: "running", finishedAt: null });

    await network.heal();
    const healedMs = performance.now();
    await cluster.expectWhole(script, reader);
    const wholeMs = performance.now() - healedMs;
    await cluster.connected();
    process.stdout.write(
      `all lines cut: every node knew after ${seconds(offlineMs)} s; healed: result after ${seconds(wholeMs)} s, all sessions after ${seconds(performance.now() - healedMs)} s\n`,
    );
    expect(offlineMs).toBeLessThan(noticedWithinMs);
  }, 300_000);

  it("notices within 30 s that one direction is dead, whichever it is, and goes on through another node", async () => {
    const [first, second] = [await separateNetwork(), await separateNetwork()];
    cluster = await ProcessNodes.start(names, [], { agentHost: first.host });
    const group = cluster;
    const cutOneWay = async (network: SeparateNetwork, dropped: "incoming" | "outgoing"): Promise<void> => {
      const agent = `agent-${dropped}`;
      await group.cluster.startAgent({ name: agent, wrapper: network.wrapper });
      const script = await group.counting(group.named("node-a"), agent, { count: 450, pauseSeconds: 0.1 });
      const home = group.named(await homeOf(group, script));
      const reader = group.named(names.find((name) => name !== home.name) ?? "node-a");
      await network.cut([home.server.agentPort], dropped);
      const cutMs = performance.now();
      const meanwhile = await group.counting(home, agent, { count: 3, pauseSeconds: 0.1 });
      const moved = eventually(
        `the log of ${agent} flows through another node`,
        async () => {
          const view = await reader.client.tasks.show(script.id);
          return { done: view.home !== null && view.home !== home.name, state: view };
        },
        { limitMs: noticedWithinMs + 10_000 },
      ).then(() => performance.now());
      await group.expectWhole(meanwhile, reader);
      const doneMs = performance.now();
      const movedMs = await moved;
      process.stdout.write(
        `${agent}: noticed after ${seconds(movedMs - cutMs)} s; a task submitted to the dead line's node was done after ${seconds(doneMs - cutMs)} s\n`,
      );
      expect(movedMs - cutMs).toBeLessThan(noticedWithinMs);
      // What came of the dead line is over by itself on both sides: neither keeps a session that carries one way only.
      await eventually(
        `${home.name} has let ${agent} go`,
        async () => {
          const { nodes } = await reader.client.agents.show(agent);
          const seen = nodes.find((node) => node.name === home.name);
          return { done: seen?.state !== "connected", state: nodes };
        },
        { limitMs: noticedWithinMs },
      );
      await network.heal();
      await group.expectWhole(script, reader);
    };
    await Promise.all([cutOneWay(first, "incoming"), cutOneWay(second, "outgoing")]);
    await cluster.connected();
  }, 300_000);
});

/** The node that has the log of a script that runs. */
async function homeOf(cluster: ProcessNodes, { id, truth }: Counted): Promise<string> {
  const { home } = await eventually(`the log of ${id} flows`, async () => {
    const view = await cluster.anyClient().tasks.show(id);
    const flows = (view.attempts[0]?.outBytes ?? 0) > 0 && view.home !== null;
    return { done: flows && startsIn(truth) === 1, state: view };
  });
  return home ?? "";
}

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(1);
}
