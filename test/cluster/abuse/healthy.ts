// What must hold while a node is attacked: its memory and descriptors stay under stated caps at every look, an agent beside
// the attackers keeps its sessions, and a script submitted meanwhile runs and its log is whole. Afterwards all goes back.
import { expect } from "vitest";
import { countedLines, countingScript } from "../../harness/script-truth.ts";
import type { TestAgent, TestCluster } from "../../harness/cluster.ts";
import { eventually } from "../../harness/eventually.ts";
import { openDescriptors, residentBytes } from "../../harness/process.ts";

/** What the node may hold above what it holds when nobody attacks. */
export interface Caps {
  readonly descriptors: number;
  readonly bytes: number;
}

const mebi = 1024 * 1024;
/** Connections to the database, of the test's own client and of the watcher's questions. */
export const ownDescriptors = 48;
/** What a heap grows by when anything at all is done with it, before it is collected. */
export const ownBytes = 64 * mebi;
/** A TLS connection before or after its handshake, with what Node and OpenSSL keep for it. */
export const handshakeBytes = 100 * 1024;

const lines = 40;
const script = countingScript("/dev/null", { count: lines, pauseSeconds: 0.05 });

/** Compiles, connects and caches what the first tasks cost: no growth by an attack. */
export async function warmUp(cluster: TestCluster, agent: TestAgent): Promise<void> {
  for (let round = 0; round < 5; round += 1) {
    const [task] = await (await cluster.client.run({ on: agent.name, script: "echo warm" })).results();
    expect(task).toMatchObject({ state: "succeeded" });
  }
}

/**
 * Runs the attack with all of that watched. `attack` resolves when it is in full swing, with what ends it; a script is run
 * and read in between.
 */
export async function withstand(
  { cluster, agent }: { readonly cluster: TestCluster; readonly agent: TestAgent },
  {
    name,
    caps,
    attack,
  }: { readonly name: string; readonly caps: Caps; readonly attack: () => Promise<() => Promise<void>> },
): Promise<void> {
  const { pid } = cluster.server.program;
  const idle = { descriptors: openDescriptors(pid), bytes: residentBytes(pid) };
  const sessions = await sessionsOf(cluster, agent);
  const most = { ...idle };
  let state: "attacked" | "over" = "attacked";
  const watch = eventually(
    `${name} is over`,
    () => {
      most.descriptors = Math.max(most.descriptors, openDescriptors(pid));
      most.bytes = Math.max(most.bytes, residentBytes(pid));
      return { done: state === "over", state: most };
    },
    { limitMs: 240_000 },
  );
  try {
    const end = await attack();
    const handle = await cluster.client.run({ on: agent.name, script });
    let output = "";
    for await (const { text } of handle.log()) output += `${text}\n`;
    const [task] = await handle.results();
    expect({ state: task?.state, output }).toEqual({ state: "succeeded", output: countedLines(lines) });
    await end();
  } finally {
    state = "over";
    await watch;
  }
  const grown = { descriptors: most.descriptors - idle.descriptors, bytes: most.bytes - idle.bytes };
  process.stdout.write(
    `${name}: at most ${grown.descriptors} descriptors (cap ${caps.descriptors}) and ${Math.round(grown.bytes / mebi)} MiB (cap ${Math.round(caps.bytes / mebi)}) above idle\n`,
  );
  expect(grown.descriptors).toBeLessThanOrEqual(caps.descriptors);
  expect(grown.bytes).toBeLessThanOrEqual(caps.bytes);
  expect(await sessionsOf(cluster, agent)).toEqual(sessions);
  await eventually(`the node has let go of ${name}`, () => {
    const now = openDescriptors(pid);
    return { done: now <= idle.descriptors + ownDescriptors, state: { now, idle } };
  });
}

/** Repeats an attack that is over by itself; resolves after the first time, with what ends it after one more. */
export async function againAndAgain(attack: () => Promise<void>): Promise<() => Promise<void>> {
  let state: "on" | "ending" = "on";
  await attack();
  const ended = (async () => {
    while (state === "on") await attack();
  })();
  // Whoever ends it hears how it went.
  ended.catch(() => undefined);
  return async () => {
    state = "ending";
    await ended;
  };
}

/** Since when it is connected, and how often it has been. */
async function sessionsOf(cluster: TestCluster, { name, program }: TestAgent) {
  const { connection, nodes } = await cluster.client.agents.show(name);
  expect(connection).toBe("fully");
  return {
    since: nodes.map(({ name: node, since }) => ({ node, since })),
    opened: program.output.split("session open").length,
  };
}
