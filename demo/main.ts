// `npm run demo`: three server nodes on one PostgreSQL, two agents, a script on both with its log live; then a node is
// killed under a running script, and another one added. Stays up until Ctrl-C; with --once it ends by itself. Leaves
// nothing behind either way.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { DemoCluster } from "./cluster.ts";
import { countUp } from "./failover.ts";

const agents = [
  { name: "web-01", label: "role=web" },
  { name: "web-02", label: "role=web" },
];

const write = (text: string): void => void process.stdout.write(text);
const say = (text: string): void => write(`${text}\n`);

async function demo(cluster: DemoCluster, mode: "once" | "stay"): Promise<number> {
  say("1. PostgreSQL starts, and three server nodes on it.");
  await cluster.startDatabase();
  for (const name of ["node-a", "node-b", "node-c"]) {
    const { url, agentPort } = await cluster.startNode(name);
    say(`   ${name}: API ${url}, agents on port ${agentPort}`);
  }

  say("2. Two agents enrol with single-use tokens and dial every node.");
  for (const agent of agents) say((await cluster.startAgent(agent)).replaceAll(/^/gm, "   "));
  const names = agents.map(({ name }) => name);
  await cluster.connected(names, ["node-a", "node-b", "node-c"]);

  say("3. One script on both:  holdfast run --on role=web --script demo/hello.sh");
  const hello = ["run", "--on", "role=web", "--script", join(import.meta.dirname, "hello.sh")];
  const exitCode = await shown(cluster, hello);
  if (exitCode !== 0) return exitCode;

  say("4. A counting script on web-01; the node its log flows through is killed while it runs.");
  write("  ");
  const { longestPauseMs } = await countUp(cluster, { kill: "home", show: write });
  say(`\n   every number once, no gap; the longest pause between two was ${Math.round(longestPauseMs)} ms`);

  say("5. A fourth node joins; the agents are not touched.");
  const startedMs = performance.now();
  const { name } = await cluster.startNode("node-d");
  await cluster.connected(names, [name]);
  say(`   ${names.join(" and ")} are connected to ${name}, ${seconds(startedMs)} s after it was started`);
  await shown(cluster, ["agents", "list"]);

  say("");
  say("The cluster is up. From another terminal in this folder:");
  say("");
  say(`  export HOLDFAST_URL=${cluster.first.url} HOLDFAST_API_KEY=${cluster.apiKey}`);
  say("  bin/holdfast run --on web-01 -- 'uname -a; exit 3'; echo \"exit code $?\"");
  say("  bin/holdfast nodes list");
  say(`  API description: ${cluster.first.url}/api/docs`);
  if (mode === "stay") {
    say("\nCtrl-C ends everything.");
    await Promise.race([interrupted, cluster.first.program.exited]);
  }
  return 0;
}

const seconds = (sinceMs: number): string => ((performance.now() - sinceMs) / 1_000).toFixed(1);

/** Runs a command with its output on this terminal. */
function shown(cluster: DemoCluster, args: readonly string[]): Promise<number> {
  const environment = { HOLDFAST_URL: cluster.first.url, HOLDFAST_API_KEY: cluster.apiKey };
  const child = spawn(process.execPath, [join(import.meta.dirname, "..", "cli", "holdfast.ts"), ...args], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "inherit", "inherit"],
  });
  return new Promise((resolve) => void child.once("close", (code) => resolve(code ?? 1)));
}

const interrupted = new Promise<void>((resolve) => {
  let asked = 0;
  const onSignal = (): void => {
    asked += 1;
    // The second time nothing is waited for any more.
    if (asked > 1) process.exit(130);
    resolve();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
});

const cluster = await DemoCluster.create();
try {
  const ended = interrupted.then(() => 130);
  process.exitCode = await Promise.race([demo(cluster, process.argv.includes("--once") ? "once" : "stay"), ended]);
} catch (cause) {
  process.stderr.write(`demo: ${cause instanceof Error ? cause.message : String(cause)}\n`);
  process.exitCode = 1;
} finally {
  await cluster.end();
}
