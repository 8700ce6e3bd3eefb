// A counting script, followed number by number; for the demo and its bench, with the kill -9 of the node its log flows through.
import type { DemoCluster } from "./cluster.ts";

const last = 60;
const killedAfter = 20;
const script = `for i in $(seq ${last}); do echo $i; sleep 0.05; done`;

export interface Failover {
  readonly killed: string;
  /** Between two numbers, at most. */
  readonly longestPauseMs: number;
}

/** Throws when a number is missing, comes twice or the script does not succeed. */
export async function countUp(
  cluster: DemoCluster,
  { kill, show = () => undefined }: { readonly kill: "home" | "nobody"; readonly show?: (text: string) => void },
): Promise<Failover> {
  const submitted = await cluster.first.client.run({ on: "web-01", script });
  const id = submitted.tasks[0]?.id ?? "";
  let home = "";
  while (home === "") {
    home = (await cluster.first.client.tasks.show(id)).home ?? "";
    await new Promise((resolve) => void setTimeout(resolve, 20));
  }
  // Followed through a node that stays; one that dies would only make the reader go on elsewhere.
  const watcher = cluster.nodes.find(({ name }) => name !== home) ?? cluster.first;
  const handle = await watcher.client.tasks.follow(id);
  let expected = 1;
  let longestPauseMs = 0;
  let seenMs = performance.now();
  for await (const { text } of handle.log()) {
    if (text !== String(expected)) throw new Error(`the log says ${text} where ${expected} was due`);
    if (expected > 1) longestPauseMs = Math.max(longestPauseMs, performance.now() - seenMs);
    seenMs = performance.now();
    show(` ${text}`);
    if (expected === killedAfter && kill === "home") {
      cluster.kill(home);
      show(`\n   kill -9 ${home}, through which this flowed\n  `);
    }
    expected += 1;
  }
  const { state } = await watcher.client.tasks.show(id);
  if (expected !== last + 1 || state !== "succeeded")
    throw new Error(`the script is ${state}, ${expected - 1} of ${last} numbers came`);
  return { killed: home, longestPauseMs };
}
